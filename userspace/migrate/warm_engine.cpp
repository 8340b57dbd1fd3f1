// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm_engine.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "userspace/memcached/meta.h"
#include "userspace/memcached/stats.h"
#include "userspace/migrate/side.h"
#include "userspace/migrate/walk.h"
#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kMostKeys = 4096, kFewestKeys = 64; // of a batch
constexpr uint64_t kBatchBytes = 1 << 20;              // of items
constexpr size_t kDrained = 8;                         // batches that wait for the barrier
constexpr uint64_t kSettlingBytes = 26 << 20;          // of keys that wait to be confirmed
constexpr uint64_t kLookNs = kSecondNs / 20;           // between two looks at the target
constexpr uint64_t kMeasureNs = kSecondNs / 20;        // of the source's answer time
constexpr uint64_t kCheckNs = kSecondNs;               // between two looks for the mirror
constexpr uint64_t kStaleNs = kSecondNs;               // an answer with a time to live is too old

} // namespace

WarmEngine::WarmEngine(const WarmContext &context)
    : c_(context), pace_(context.options.rate), repair_(context), most_keys_(kMostKeys),
      next_keys_(context.options.stale_ok ? kMostKeys : 1) {}

Status WarmEngine::run() {
  for (int i = 0; i < 20; i++) {
    TRY(c_.source.converse("mn\r\n", [](const memcached::Answer &) { return false; }));
    pace_.quiet(c_.source.last_answer_us());
  }
  while (TRY(turn()))
    ;
  return Unit{};
}

// Everything before it is over.
uint64_t WarmEngine::finished() const {
  uint64_t from = std::min({c_.list.position(), repair_.first(), abandoned_});
  for (const auto *queue : {&drained_, &settling_})
    for (const Batch &b : *queue)
      from = std::min(from, b.from);
  for (const auto *lone : {&deletes_, &again_})
    for (const LoneKey &k : *lone)
      from = std::min(from, k.from);
  return from;
}

bool WarmEngine::may_read(uint64_t now) const {
  return !c_.is_stopping() && (!list_ended_ || !again_.empty()) && now >= pace_.next_ns() &&
         drained_.size() < kDrained && settling_bytes_ < kSettlingBytes;
}

Status WarmEngine::fill(Batch &batch) {
  const uint64_t most = std::min({most_keys_, next_keys_, pace_.most_keys()});
  next_keys_ = std::min(kMostKeys, 4 * next_keys_);
  uint64_t bytes = 0;
  const auto add = [&](const std::string &key, const KeyCopy &copy, uint64_t from) {
    Row row;
    row.copy = copy;
    row.key_at = static_cast<uint32_t>(batch.keys.size());
    row.key_size = static_cast<uint8_t>(key.size());
    batch.keys += key;
    batch.rows.push_back(row);
    batch.from = std::min(batch.from, from);
  };
  while (!again_.empty() && batch.rows.size() < most) {
    add(again_.back().key, again_.back().copy, again_.back().from);
    again_.pop_back();
  }
  WarmList::Key key;
  while (!list_ended_ && batch.rows.size() + deletes_.size() < most && bytes < kBatchBytes) {
    if (!TRY(c_.list.next(c_.options.prefix, key))) {
      list_ended_ = true;
      break;
    }
    if (!c_.options.prefix.empty())
      c_.report.keys++;
    bytes += key.size;
    if (!key.unsettled || !memcached::has_name(key.key)) { // what no line can name was never stored
      add(key.key, KeyCopy(false), key.from);
      continue;
    }
    LoneKey lone{key.key, KeyCopy(true), key.from};
    lone.copy.awaited(); // warm() has waited before it began
    deletes_.push_back(std::move(lone));
  }
  batch.keys.shrink_to_fit();
  batch.rows.shrink_to_fit();
  batch.end = c_.list.position();
  return Unit{};
}

Status WarmEngine::choose(Turn &t, uint64_t now) {
  if (c_.is_stopping())
    abandon();
  if (may_read(now)) {
    TRY(fill(t.fresh));
    pace_.took(t.fresh.rows.size(), now);
  }
  if (!drained_.empty() && TRY(c_.barrier.is_passed(drained_.front().mark))) {
    t.ready = std::move(drained_.front());
    drained_.pop_front();
    TRY(c_.list.begin(t.ready.end));
    read_late_ones_again(t.ready);
    if (c_.refuses_when_full)
      TRY(leave_present_ones(t.ready));
  }
  if (!settling_.empty() && settling_.front().stored_ns + c_.settle_ns <= now) {
    t.due = std::move(settling_.front());
    settling_.pop_front();
    settling_bytes_ -= t.due.bytes();
  }
  return Unit{};
}

// What is not stored yet is left, for the next time where there is a file.
void WarmEngine::abandon() {
  abandoned_ = std::min(abandoned_, repair_.first());
  for (const Batch &b : drained_)
    abandoned_ = std::min(abandoned_, b.from);
  for (const LoneKey &k : again_)
    abandoned_ = std::min(abandoned_, k.from);
  drained_.clear();
  again_.clear();
}

void WarmEngine::keep_stores(Batch &batch, std::string &stores, Row &row) {
  const auto at = stores.size();
  stores.append(batch.stores, row.store_at, row.store_size);
  row.store_at = static_cast<uint32_t>(at);
}

// A store that finds no memory deletes the item that is there, even if it would not have replaced
// it (process_mset_command(), proto_text.c): so it is asked for first.
Status WarmEngine::leave_present_ones(Batch &batch) {
  std::vector<std::string> keys;
  std::vector<Row *> rows;
  for (Row &row : batch.rows)
    if (row.copy.step() == Step::drain) {
      keys.emplace_back(batch.key(row));
      rows.push_back(&row);
    }
  TRY(read_standings(c_.target, keys, [&](size_t i, const memcached::Standing *there) {
    if (there)
      rows[i]->copy.end(Outcome::present);
  }));
  std::string stores;
  for (Row *row : rows)
    if (row->copy.step() == Step::drain)
      keep_stores(batch, stores, *row);
  batch.stores = std::move(stores);
  return Unit{};
}

// What remains of a time to live was told when it was read. After a second the copy would outlive
// the item.
void WarmEngine::read_late_ones_again(Batch &batch) {
  if (monotonic_ns() - batch.read_ns < kStaleNs)
    return;
  std::string stores;
  bool late = false;
  for (Row &row : batch.rows) {
    if (row.copy.step() != Step::drain)
      continue;
    if (row.copy.seen().ends != kNever) {
      row.copy.read_again();
      late = true;
    } else {
      keep_stores(batch, stores, row);
    }
  }
  batch.stores = std::move(stores);
  if (late)
    most_keys_ = std::max(kFewestKeys, most_keys_ / 2); // it takes too long for so many
}

// `me` of 1.6.18 tells one second from never for no item, and is for plain keys only.
bool WarmEngine::peeks(std::string_view key, const KeyCopy &copy) const {
  return !c_.has_me || !memcached::is_plain_key(key) ||
         (copy.seen().ends == kNever && !me_is_signed_);
}

void WarmEngine::request(Turn &t) {
  for (uint32_t i = 0; i < t.fresh.rows.size(); i++) {
    auto &row = t.fresh.rows[i];
    if (!request_read(t.source_request, t.fresh.key(row), i))
      row.copy.end(Outcome::failed); // no line can name it
  }
  for (uint32_t i = 0; i < t.due.rows.size(); i++) {
    auto &row = t.due.rows[i];
    row.copy.settled();
    t.confirmed.push_back(i);
    if (const auto key = t.due.key(row); peeks(key, row.copy))
      request_peek(t.source_request, key, i);
    else
      request_look(t.source_request, key);
  }
  for (uint32_t i = 0; i < t.ready.rows.size(); i++)
    if (auto &row = t.ready.rows[i]; row.copy.step() == Step::drain) {
      row.copy.drained();
      t.stored.push_back(i);
    }
  t.target_request = std::move(t.ready.stores);
  for (const LoneKey &k : deletes_)
    request_delete(t.target_request, k.key, k.copy.step() == Step::undo ? k.copy.stored_cas() : 0);
}

bool WarmEngine::take_read(Batch &batch, uint32_t number, const memcached::Answer &answer) {
  Row &row = batch.rows[number];
  const auto item = read_answer(answer, number, c_.clock);
  if (!item)
    return false;
  c_.report.source_gets++;
  if (item->failed)
    row.copy.end(Outcome::failed);
  else if (item->stale)
    row.copy.end(Outcome::stale);
  else if (item->look.there && item->ttl >= 0 && item->ttl < 2)
    row.copy.end(Outcome::gone); // less the way there: under a second
  else
    row.copy.read(item->look);
  if (item->won && !c_.options.stale_ok && c_.report.stopped.empty())
    c_.report.stopped = "the source has items that its clients marked as stale (md with I): a read "
                        "takes the token by which one of them would recache";
  if (row.copy.step() != Step::drain)
    return true;
  const auto key = batch.key(row);
  if (is_too_large(c_.target_item_max, key.size(), item->value.size())) {
    row.copy.end(Outcome::too_large); // a failed store would delete what the mirror brought
    return true;
  }
  if (item->flags > c_.target_most_flags) {
    row.copy.end(Outcome::wide_flags);
    return true;
  }
  row.store_at = static_cast<uint32_t>(batch.stores.size());
  StoreRequest s{key, item->value};
  s.flags = item->flags;
  s.ends = item->ttl < 0 ? 0 : c_.clock.end_for(item->ttl);
  s.source_cas = c_.copies_cas ? item->look.cas : 0;
  s.opaque = row.opaque = static_cast<uint16_t>(number);
  request_store(batch.stores, s);
  row.store_size = static_cast<uint32_t>(batch.stores.size()) - row.store_at;
  return true;
}

bool WarmEngine::take_confirm(Batch &batch, Row &row, uint32_t number,
                              const memcached::Answer &answer) {
  if (answer.line.starts_with("ME ")) {
    const auto look = look_answer(answer, batch.key(row), c_.clock);
    if (!look)
      return false;
    me_is_signed_ = (me_is_signed_ || look->signed_right) && !look->signed_wrong;
    row.copy.confirmed(look->look);
    return true;
  }
  const auto item = read_answer(answer, number, c_.clock);
  if (!item)
    return false;
  c_.report.source_gets += item->look.there ? 1 : 0;
  row.copy.confirmed(item->failed ? Look{} : item->look);
  return true;
}

bool WarmEngine::take_source(Turn &t, const memcached::Answer &answer) {
  auto &rows = t.fresh.rows;
  while (t.read_at < rows.size() && rows[t.read_at].copy.step() == Step::done)
    t.read_at++; // not asked for
  bool good = true;
  if (t.read_at < rows.size()) {
    good = take_read(t.fresh, static_cast<uint32_t>(t.read_at), answer);
    t.read_at++;
    while (t.read_at < rows.size() && rows[t.read_at].copy.step() == Step::done)
      t.read_at++;
  } else if (t.confirm_at < t.confirmed.size()) {
    const uint32_t i = t.confirmed[t.confirm_at++];
    good = take_confirm(t.due, t.due.rows[i], i, answer);
  }
  if (!good)
    t.bad = no_answer(c_.source, answer.line).what;
  return good && (t.read_at < rows.size() || t.confirm_at < t.confirmed.size());
}

bool WarmEngine::take_delete(const memcached::Answer &answer, LoneKey &lone) {
  const auto deleted = delete_answer(answer);
  if (!deleted)
    return false;
  if (lone.copy.step() == Step::undo)
    lone.copy.undone(*deleted, c_.barrier.converges());
  else
    lone.copy.dropped();
  return true;
}

bool WarmEngine::take_target(Turn &t, const memcached::Answer &answer) {
  bool good = true;
  if (t.store_at < t.stored.size()) {
    Row &row = t.ready.rows[t.stored[t.store_at++]];
    const auto a = store_answer(answer, row.opaque);
    good = a.has_value();
    if (a) {
      row.copy.added(a->stored, a->cas);
      c_.report.evicting = c_.report.evicting || a->out_of_memory;
    }
  } else {
    good = take_delete(answer, deletes_[t.delete_at++]);
  }
  if (!good)
    t.bad = no_answer(c_.target, answer.line).what;
  return good && (t.store_at < t.stored.size() || t.delete_at < deletes_.size());
}

Status WarmEngine::exchange(Turn &t) {
  std::vector<memcached::Exchange> all;
  t.fresh.read_ns = monotonic_ns();
  if (!t.source_request.empty())
    all.push_back({&c_.source, std::move(t.source_request),
                   [&](const memcached::Answer &a) { return take_source(t, a); }});
  if (!t.target_request.empty())
    all.push_back({&c_.target, std::move(t.target_request),
                   [&](const memcached::Answer &a) { return take_target(t, a); }});
  auto status = memcached::converse_all(all);
  t.ready.stored_ns = monotonic_ns();
  if (!t.bad.empty())
    return Error{
        c_.source.server().text() + ", " + c_.target.server().text(), t.bad, {}, Exit::failure};
  return status;
}

void WarmEngine::follow(const Batch &batch, Row &row) {
  const Step step = row.copy.step();
  if (step == Step::settle || step == Step::drain)
    return;
  follow(LoneKey{std::string(batch.key(row)), row.copy, batch.from});
}

void WarmEngine::follow(LoneKey lone) {
  if (lone.copy.step() == Step::undo && !c_.has_cas)
    lone.copy.undone(Deleted::changed, false); // nobody can tell: it is dropped
  switch (lone.copy.step()) {
  case Step::undo:
  case Step::drop:
    deletes_.push_back(std::move(lone));
    break;
  case Step::read:
    again_.push_back(std::move(lone));
    break;
  default:
    if (lone.copy.outcome() == Outcome::present && c_.options.repair)
      repair_.take(std::move(lone.key), lone.from);
    else
      count(c_.report, lone.copy.outcome());
  }
}

// The time to live that was stored had been told so long before that the copy outlives the item.
void WarmEngine::undo_late_ones(Batch &batch) {
  if (batch.stored_ns - batch.read_ns < kStaleNs)
    return;
  for (Row &row : batch.rows)
    if (row.copy.step() == Step::settle && row.copy.seen().ends != kNever) {
      row.copy.settled();
      row.copy.confirmed(Look{});
    }
}

Status WarmEngine::after_exchange(Turn &t) {
  undo_late_ones(t.ready);
  auto deleted = std::move(deletes_);
  deletes_.clear();
  for (LoneKey &lone : deleted)
    follow(std::move(lone));
  for (Batch *batch : {&t.fresh, &t.ready, &t.due}) {
    for (Row &row : batch->rows)
      follow(*batch, row);
    std::erase_if(batch->rows, [](const Row &row) {
      return row.copy.step() != Step::settle && row.copy.step() != Step::drain;
    });
  }
  if (!t.fresh.rows.empty()) {
    t.fresh.mark = TRY(c_.barrier.begin());
    drained_.push_back(std::move(t.fresh));
  }
  if (!t.ready.rows.empty()) {
    t.ready.rows.shrink_to_fit();
    settling_bytes_ += t.ready.bytes();
    settling_.push_back(std::move(t.ready));
  }
  return c_.list.finish(finished());
}

// One turn of the wheel; false: all is done.
Result<bool> WarmEngine::turn() {
  const uint64_t now = monotonic_ns();
  TRY(look_around(now));
  Turn t;
  TRY(choose(t, now));
  if (c_.options.repair) {
    std::vector<RepairKey> absent;
    const bool flush = list_ended_ && drained_.empty() && settling_.empty() && again_.empty();
    TRY(repair_.step(now, flush || c_.is_stopping(), absent));
    for (RepairKey &k : absent)
      again_.push_back({std::move(k.key), KeyCopy(false), k.from});
  }
  request(t);
  if (!t.source_request.empty() || !t.target_request.empty()) {
    if (auto status = exchange(t); !status) {
      drained_.push_front(std::move(t.ready)); // may be stored, or not: see give_back()
      settling_.push_front(std::move(t.due));
      return status.errors();
    }
    TRY(after_exchange(t));
    return true;
  }
  TRY(after_exchange(t)); // rows that led to no request
  if (drained_.empty() && settling_.empty() && deletes_.empty() && repair_.is_idle() &&
      (c_.is_stopping() || (list_ended_ && again_.empty())))
    return false;
  wait(now);
  return true;
}

void WarmEngine::wait(uint64_t now) const {
  uint64_t until = now + (drained_.empty() ? 50 * kMs : kMs);
  if (!settling_.empty())
    until = std::min(until, settling_.front().stored_ns + c_.settle_ns);
  until = std::min(until, repair_.next_due_ns());
  if (pace_.next_ns() > now)
    until = std::min(until, pace_.next_ns());
  if (until > now)
    std::this_thread::sleep_for(std::chrono::nanoseconds(until - now));
}

// How all fare: the mirror, the source's answer time, the target's evictions.
Status WarmEngine::look_around(uint64_t now) {
  if (now >= next_check_ns_) {
    next_check_ns_ = now + kCheckNs;
    TRY(c_.barrier.check());
  }
  if (now >= next_measure_ns_) {
    next_measure_ns_ = now + kMeasureNs;
    TRY(c_.source.converse("mn\r\n", [](const memcached::Answer &) { return false; }));
    pace_.measured(c_.source.last_answer_us());
  }
  if (now < next_look_ns_)
    return Unit{};
  next_look_ns_ = now + kLookNs;
  const auto stats = TRY(memcached::stats(c_.target));
  c_.report.evicting |= note_evictions(c_, memcached::number(stats, "evictions")) > 0;
  return Unit{};
}

// Those that wait for the barrier are not stored yet, but for the batch that was under way.
std::vector<LoneKey> WarmEngine::begun() const {
  std::vector<LoneKey> keys;
  for (const auto *queue : {&drained_, &settling_})
    for (const Batch &b : *queue)
      for (const Row &row : b.rows)
        if (row.copy.step() != Step::drain && row.copy.step() != Step::done)
          keys.push_back({std::string(b.key(row)), row.copy, b.from});
  return keys;
}

uint64_t WarmEngine::unconfirmed() const {
  return deletes_.size() + repair_.unconfirmed().size() + begun().size();
}

// Those of `keys` that the source has not as they were read.
Result<std::vector<LoneKey>> WarmEngine::changed(memcached::Connection &source,
                                                 const std::vector<LoneKey> &keys) const {
  std::vector<LoneKey> found;
  for (size_t first = 0; first < keys.size(); first += kMostKeys) {
    const size_t end = std::min<size_t>(first + kMostKeys, keys.size());
    std::string request;
    for (size_t i = first; i < end; i++)
      request_peek(request, keys[i].key, static_cast<uint32_t>(i));
    size_t at = first;
    TRY(source.converse(request, [&](const memcached::Answer &answer) {
      const auto item = read_answer(answer, static_cast<uint32_t>(at), c_.clock);
      if (!item || item->failed || !is_same(item->look, keys[at].copy.seen()))
        found.push_back(keys[at]);
      return ++at < end;
    }));
  }
  return found;
}

Result<uint64_t> WarmEngine::give_back(memcached::Connection *source,
                                       memcached::Connection &target) {
  std::string request;
  uint64_t asked = 0;
  for (const LoneKey &k : source ? TRY(changed(*source, begun())) : begun())
    if (source || k.copy.stored_cas()) // else it is not known to be ours
      asked += request_delete(request, k.key, source ? 0 : k.copy.stored_cas());
  for (const LoneKey &k : deletes_)
    asked += request_delete(request, k.key, 0);
  for (const std::string &key : repair_.unconfirmed())
    asked += request_delete(request, key, 0);
  const uint64_t deleted = asked;
  if (asked > 0)
    TRY(target.converse(request, [&](const memcached::Answer &) { return --asked > 0; }));
  return deleted;
}

} // namespace doppel::migrate
