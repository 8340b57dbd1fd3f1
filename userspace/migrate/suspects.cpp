// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/suspects.h"

#include <algorithm>
#include <iterator>

#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
// Looks of one key, and what the source has after both.
struct Second {
  Print source, target;
  uint64_t cas_after = 0;
  bool there_after = false, won_after = false;
};

Verdict verdict_of(const Suspect &first, const Second &second) {
  const Difference now = compare(second.source, second.target);
  switch (now) {
  case Difference::none:
    return Verdict::equal;
  case Difference::absent:
    return Verdict::gone;
  case Difference::stale:
    return Verdict::stale;
  case Difference::unreadable:
    return Verdict::unreadable;
  default:
    break;
  }
  // A write after the second look's read of the source may be what the target already shows.
  const bool unmoved = is_unmoved(first.source, second.source) &&
                       second.there_after == second.source.is_present() &&
                       (!second.there_after || second.cas_after == second.source.cas);
  return unmoved && now == first.difference ? Verdict::differs : Verdict::moving;
}

} // namespace

void Suspects::add(std::string key, const Print &source, Difference difference) {
  waiting_.push_back({std::move(key), source, difference, monotonic_ns() + settle_ns_});
}

Status Suspects::look_again() {
  while (!waiting_.empty()) {
    const uint64_t now = monotonic_ns();
    const uint64_t due = waiting_.front().due_ns;
    if (due > now && waiting_.size() < kMost)
      return Unit{};
    if (due > now)
      TRY(alive_.rest(due));
    std::vector<Suspect> batch;
    uint64_t bytes = 0;
    const uint64_t until = std::max(now, due);
    while (!waiting_.empty() && waiting_.front().due_ns <= until &&
           batch.size() < pace_.most_keys() &&
           (batch.empty() || bytes + waiting_.front().source.size <= most_bytes_)) {
      bytes += waiting_.front().source.size;
      batch.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    TRY(judge(std::move(batch)));
  }
  return Unit{};
}

Status Suspects::finish() {
  while (!waiting_.empty()) {
    const uint64_t now = monotonic_ns();
    if (waiting_.front().due_ns > now)
      TRY(alive_.rest(waiting_.front().due_ns));
    TRY(look_again());
  }
  return Unit{};
}

void Suspects::note_way(uint64_t took_ns) {
  if (took_ns > Batch::kSlowNs)
    most_bytes_ = std::max<uint64_t>(1, most_bytes_ / 2);
  else if (took_ns < Batch::kSlowNs / 4)
    most_bytes_ = std::min(2 * most_bytes_, Batch::kMostBytes);
}

// Those that have the CAS of the first look, when they were not stale, are so still: to mark an
// item is a write. And what is not there cannot be marked. `me` tells, which takes no token, and is
// for plain keys.
Status Suspects::leave_unmoved(std::vector<Suspect> &batch, std::vector<Suspect> &unmoved) {
  std::vector<std::string> keys;
  std::vector<Suspect> plain, others;
  for (Suspect &s : batch) {
    const bool is_plain = memcached::is_plain_key(s.key);
    if (is_plain)
      keys.push_back(s.key);
    (is_plain ? plain : others).push_back(std::move(s));
  }
  TRY(read_standings(source_, keys, [&](size_t i, const memcached::Standing *now) {
    const uint64_t before = plain[i].source.cas;
    const bool is_unmoved = !now || (before != 0 && now->cas == before);
    (is_unmoved ? unmoved : others).push_back(std::move(plain[i]));
  }));
  batch = std::move(others);
  return Unit{};
}

// What moved may be stale now: few at a time, the first alone.
Status Suspects::judge(std::vector<Suspect> batch) {
  constexpr size_t kMostAtRisk = 64;
  pace_.wait(batch.size());
  if (!careful_)
    return judge_at_once(batch);
  std::vector<Suspect> unmoved;
  TRY(leave_unmoved(batch, unmoved));
  TRY(judge_at_once(unmoved));
  for (size_t first = 0, few = 1; first < batch.size(); few = std::min(4 * few, kMostAtRisk)) {
    const size_t n = std::min(few, batch.size() - first);
    const auto begin = batch.begin() + static_cast<std::ptrdiff_t>(first);
    TRY(judge_at_once({std::make_move_iterator(begin),
                       std::make_move_iterator(begin + static_cast<std::ptrdiff_t>(n))}));
    first += n;
  }
  return Unit{};
}

Status Suspects::judge_at_once(const std::vector<Suspect> &batch) {
  if (batch.empty())
    return Unit{};
  std::vector<std::string> keys;
  keys.reserve(batch.size());
  for (const Suspect &s : batch)
    keys.push_back(s.key);
  std::vector<Second> seconds(batch.size());
  const uint64_t now = monotonic_ns();
  TRY(read_items(
      {{&source_, [&](size_t i, const Seen &seen) { seconds[i].source = print_of(seen, now); }},
       {&target_, [&](size_t i, const Seen &seen) { seconds[i].target = print_of(seen, now); }}},
      keys));
  note_way(monotonic_ns() - now);
  TRY(read_standings(source_, keys, [&](size_t i, const memcached::Standing *s) {
    seconds[i].there_after = s != nullptr;
    seconds[i].cas_after = s ? s->cas : 0;
    seconds[i].won_after = s && s->won;
  }));
  for (size_t i = 0; i < batch.size(); i++)
    TRY(take_(batch[i], verdict_of(batch[i], seconds[i]),
              seconds[i].source.won || seconds[i].won_after, seconds[i].target.won));
  return Unit{};
}

} // namespace doppel::migrate
