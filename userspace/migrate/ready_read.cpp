// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/ready_read.h"

#include <algorithm>

#include "userspace/memcached/stats.h"
#include "userspace/migrate/verify.h"
#include "userspace/mirror/counters.h"
#include "userspace/util/clock.h"
#include "userspace/util/text.h"
#include "userspace/view/vitals.h"

namespace doppel::migrate {
namespace {
std::string told(const Errors &errors) { return errors.front().where + ": " + errors.front().what; }

Result<VerifyCounts> compare(const Pair &pair, const memcached::Access &access, uint64_t keys) {
  const auto source = TRY(memcached::Connection::open(pair.source, access));
  const auto target = TRY(memcached::Connection::open(pair.target, access));
  for (const auto &c : {source.get(), target.get()})
    TRY(memcached::no_pending_flush(*c, TRY(memcached::stats(*c)),
                                    TRY(memcached::stats(*c, "settings"))));
  VerifyOptions options;
  options.sample = keys;
  options.both_ways = true;
  VerifyHooks hooks;
  hooks.differs = [](const std::string &, Difference) { return Unit{}; };
  hooks.progress = [](const VerifyCounts &, uint64_t, uint64_t) {};
  hooks.warning = [](const std::string &) {};
  VerifyFile none;
  return verify(*source, *target, options, hooks, none);
}

ReadyLook::Server look_at(const memcached::Server &server, const memcached::Access &access) {
  const auto sample = read_sample(server, access);
  if (sample)
    return {{}, *sample};
  return {told(sample.errors()), {}};
}

std::string one_of(const std::string &a, const std::string &b) { return a.empty() ? b : a; }

// Of one server over the window; `absent` where nothing can be said.
ServerWindow server_window(const ReadyLook::Server &begin, const ReadyLook::Server &end,
                           const std::string &name, std::string &absent) {
  absent = one_of(absent, one_of(end.away, begin.away));
  if (!absent.empty())
    return {};
  const auto window = between(begin.sample, end.sample);
  if (!window || end.began_anew)
    absent = name + " was started anew, or its statistics were reset, within the window";
  return window.value_or(ServerWindow{});
}

PairWindow pair_window(const Pair &pair, const ReadyLook &begin, const ReadyLook &end, size_t i) {
  PairWindow w;
  w.pair = pair;
  w.source = server_window(begin.sources[i], end.sources[i], pair.source.text(), w.absent);
  w.target = server_window(begin.targets[i], end.targets[i], pair.target.text(), w.absent);
  w.source_now = end.sources[i].sample;
  w.target_now = end.targets[i].sample;
  return w;
}

// Gets that the target may count in the window and the source need not: two bytes are the least
// that a request has for a key ("get a b"), and a key that is compared is read twice at most.
uint64_t late_gets(const Pair &pair, const std::vector<RowWindow> &rows) {
  constexpr uint64_t kLeastBytes = 2, kMostReads = 2;
  uint64_t late = 0;
  for (const RowWindow &row : rows)
    if (pair.mapping.empty() || row.name.mapping == pair.mapping)
      late = std::max(late, static_cast<uint64_t>(std::max<int64_t>(row.before.in_flight, 0)) /
                                    kLeastBytes +
                                row.compared * kMostReads);
  return late;
}

} // namespace

ResetWatch::ResetWatch(const ReadyWanted &wanted, const ReadyLook &begin) {
  for (size_t i = 0; i < wanted.pairs.size(); i++) {
    const Pair &pair = wanted.pairs[i];
    sources_.push_back({ServerWatch(pair.source, wanted.access), begin.sources[i].sample});
    targets_.push_back({ServerWatch(pair.target, wanted.access), begin.targets[i].sample});
  }
}

void ResetWatch::take(Watched &w) {
  const auto answer = w.watch.answer(std::chrono::steady_clock::now());
  if (!answer || !*answer)
    return;
  w.began_anew = w.began_anew || !between(w.last, **answer);
  w.last = **answer;
}

void ResetWatch::look() {
  for (auto *all : {&sources_, &targets_})
    for (Watched &w : *all) {
      take(w);
      w.watch.ask();
    }
}

void ResetWatch::note(std::vector<Watched> &all, std::vector<ReadyLook::Server> &end) {
  for (size_t i = 0; i < all.size(); i++)
    if (end[i].away.empty())
      end[i].began_anew = all[i].began_anew || !between(all[i].last, end[i].sample);
}

void ResetWatch::note(ReadyLook &end) {
  note(sources_, end.sources);
  note(targets_, end.targets);
}

ReadyLook look(const ReadyWanted &wanted) {
  ReadyLook l;
  if (!wanted.without_mirror) {
    const auto counters = read_counters();
    if (counters)
      l.counters = *counters;
    else
      l.mirror_absent = "not seen: " + counters.errors().front().what;
  }
  for (const Pair &pair : wanted.pairs) {
    l.sources.push_back(look_at(pair.source, wanted.access));
    l.targets.push_back(look_at(pair.target, wanted.access));
  }
  l.at_ns = monotonic_ns();
  return l;
}

ReadyWindow window_of(const ReadyWanted &wanted, const ReadyLook &begin, const ReadyLook &end,
                      std::vector<Problem> problems) {
  ReadyWindow w;
  w.without_mirror = wanted.without_mirror;
  w.over_ns = end.at_ns - std::min(end.at_ns, begin.at_ns);
  w.mirror.absent = one_of(end.mirror_absent, begin.mirror_absent);
  if (begin.counters && end.counters) {
    w.mirror.problems = std::move(problems);
    w.mirror.ports = end.counters->ports;
    w.mirror.ports_free = end.counters->ports_free;
    w.mirror.chunks = end.counters->chunks;
    w.mirror.chunks_used = end.counters->chunks_used;
    w.rows = row_windows(wanted.rows, *begin.counters, *end.counters);
    w.mirror.rows_absent = wanted.rows_absent;
  }
  const bool is_other =
      wanted.since_attached && end.counters && end.counters->attached != wanted.since_attached;
  for (RowWindow &row : w.rows)
    if (is_other)
      row.since_absent = "another mirror was attached at " + iso_time(end.counters->attached) +
                         ", and what was missing before is not in its ledger";
    else
      count_from(row, wanted.at_since);
  for (size_t i = 0; i < wanted.pairs.size(); i++) {
    w.pairs.push_back(pair_window(wanted.pairs[i], begin, end, i));
    w.pairs.back().late_gets = late_gets(wanted.pairs[i], w.rows);
  }
  w.unpaired = wanted.unpaired;
  return w;
}

void sample_keys(PairWindow &pair, const memcached::Access &access, uint64_t keys) {
  if (!pair.absent.empty())
    return;
  const auto counts = compare(pair.pair, access, keys);
  if (counts)
    pair.coverage = Coverage{counts->equal, counts->judged(),    counts->moving,
                             counts->extra, counts->target_keys, counts->unseen};
  else
    pair.coverage_absent = told(counts.errors());
}

std::vector<Problem> read_problems(const FindKeeper &find_keeper) {
  const auto status = read_status(find_keeper);
  if (status)
    return status->problems;
  std::vector<Problem> problems;
  for (const Error &e : status.errors())
    problems.push_back({ProblemKind::program, e.where + ": " + e.what, e.hint, 0, {}});
  return problems;
}

} // namespace doppel::migrate
