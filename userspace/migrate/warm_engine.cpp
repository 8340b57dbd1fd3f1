// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm_engine.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "userspace/memcached/meta.h"
#include "userspace/memcached/stats.h"
#include "userspace/migrate/ask.h"
#include "userspace/migrate/placeholders.h"
#include "userspace/migrate/side.h"
#include "userspace/migrate/walk.h"
#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
constexpr uint64_t kMostKeys = 4096;            // of a batch
constexpr uint64_t kBatchBytes = 1 << 20;       // of items, as far as is known before they are read
constexpr uint64_t kMostBytes = 2 << 20;        // of its values, but for a single larger one
constexpr size_t kDrained = 8;                  // batches that wait for the barrier
constexpr uint64_t kDrainedBytes = 8 << 20;     // of their values: no more are read
constexpr uint64_t kSettlingBytes = 26 << 20;   // of keys that wait to be confirmed
constexpr uint64_t kLookNs = kSecondNs / 20;    // between two looks at the target
constexpr uint64_t kMeasureNs = kSecondNs / 20; // of the source's answer time
constexpr uint64_t kCheckNs = kSecondNs;        // between two looks for the mirror
constexpr uint64_t kStaleNs = kSecondNs;        // an answer with a time to live is too old

// Of the value when it was read last; 0: it was not.
uint64_t size_of(const Look &seen) { return seen.size == kSizeUnknown ? 0 : seen.size; }

} // namespace

WarmEngine::WarmEngine(const WarmContext &context)
    : c_(context), pace_(context.options.rate), repair_(context, pace_), most_keys_(kMostKeys),
      most_bytes_(kBatchBytes), next_keys_(context.options.stale_ok ? kMostKeys : 1) {}

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
         drained_.size() < kDrained && drained_bytes() < kDrainedBytes &&
         settling_bytes_ < kSettlingBytes &&
         settling_bytes_ + repair_.held() < WarmRepair::kMostHeld;
}

uint64_t WarmEngine::drained_bytes() const {
  uint64_t bytes = 0;
  for (const Batch &b : drained_)
    bytes += b.stores.size();
  return bytes;
}

Status WarmEngine::fill(Batch &batch) {
  const uint64_t most = std::min({most_keys_, next_keys_, pace_.most_keys()});
  next_keys_ = std::min(kMostKeys, 4 * next_keys_);
  uint64_t bytes = 0;
  const auto add = [&](const std::string &key, const KeyCopy &copy, uint64_t from, bool claimed) {
    Row row;
    row.copy = copy;
    row.claimed = claimed;
    row.key_at = static_cast<uint32_t>(batch.keys.size());
    row.key_size = static_cast<uint8_t>(key.size());
    batch.keys += key;
    batch.rows.push_back(row);
    batch.from = std::min(batch.from, from);
  };
  // To mark an item as stale is a write too: of many at once the first ends it.
  const uint64_t few = c_.options.stale_ok ? most : std::min(most, next_again_);
  while (!again_.empty() && batch.rows.size() < few && bytes < most_bytes_) {
    bytes += size_of(again_.back().copy.seen());
    add(again_.back().key, again_.back().copy, again_.back().from, again_.back().claimed);
    again_.pop_back();
  }
  next_again_ = again_.empty() ? 1 : std::min(kMostKeys, 4 * next_again_);
  WarmList::Key key;
  while (!list_ended_ && batch.rows.size() + deletes_.size() < most && bytes < most_bytes_) {
    if (!TRY(c_.list.next(c_.options.prefix, key))) {
      list_ended_ = true;
      break;
    }
    if (!c_.options.prefix.empty())
      c_.report.keys++;
    bytes += key.size;
    if (!key.unsettled || !memcached::has_name(key.key)) { // what no line can name was never stored
      add(key.key, KeyCopy(false), key.from, false);
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

// `me` is for plain keys only.
bool WarmEngine::peeks(std::string_view key) const {
  return !c_.has_me || !memcached::is_plain_key(key);
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
    if (const auto key = t.due.key(row); peeks(key)) {
      t.peeked.push_back(row);
      continue;
    }
    t.confirmed.push_back(i);
    request_look(t.source_request, t.due.key(row));
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
  if (item->won)
    note_token(c_);
  if (row.copy.step() != Step::drain)
    return true;
  if (item->ttl >= 0 && batch.rows.size() > 1 && monotonic_ns() - batch.read_ns >= kStaleNs) {
    row.copy.read_again(); // with fewer others
    return true;
  }
  const auto key = batch.key(row);
  if (is_too_large(c_.target_item_max, key.size(), item->value.size(), item->flags)) {
    row.copy.end(Outcome::too_large); // a failed store would delete what the mirror brought
    return true;
  }
  if (item->flags > c_.target_most_flags) {
    row.copy.end(Outcome::wide_flags);
    return true;
  }
  // The list tells sizes of when it was made, which a resumed warm finds hours later.
  if (batch.bytes_read > 0 && batch.bytes_read + item->value.size() > kMostBytes) {
    row.copy.read_again();
    batch.left++;
    return true;
  }
  batch.bytes_read += item->value.size();
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

// What `me` does not tell for sure is asked for by `mg`. That takes no token of an item which still
// has the CAS that it was read with: to mark it as stale is a write.
bool WarmEngine::take_confirm(Turn &t, Row &row, const memcached::Answer &answer) {
  const auto look = look_answer(answer, t.due.key(row), c_.clock);
  if (!look)
    return false;
  me_is_signed_ = (me_is_signed_ || look->signed_right) && !look->signed_wrong;
  const bool is_one_second_maybe = row.copy.seen().ends == kNever && !me_is_signed_; // 1.6.18
  if (is_one_second_maybe && is_same(row.copy.seen(), look->look))
    (c_.has_cas ? t.unmoved : t.peeked).push_back(row);
  else
    row.copy.confirmed(look->look, c_.if_changed());
  return true;
}

// What is not asked for any more, as a token was taken, is taken back.
Status WarmEngine::confirm_by_peeks(Turn &t) {
  const auto all = [](const Row &row) { return row.copy.step() == Step::confirm; };
  const auto request = [&](std::string &to, const Row &row, uint32_t n) {
    return request_peek(to, t.due.key(row), n);
  };
  const auto take = [&](Row &row, uint32_t n, const memcached::Answer &answer) {
    const auto item = read_source(c_, answer, n);
    if (!item)
      return false;
    row.copy.confirmed(item->failed ? Look{} : item->look, c_.if_changed());
    return true;
  };
  const auto unnamed = [this](Row &row) { row.copy.confirmed(Look{}, c_.if_changed()); };
  TRY(ask(c_.source, t.unmoved, all, request, take, unnamed));
  TRY(ask_carefully(c_, c_.source, t.peeked, all, request, take, unnamed));
  for (Row &row : t.peeked)
    if (all(row))
      unnamed(row);
  return Unit{};
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
    good = take_confirm(t, t.due.rows[i], answer);
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
    lone.copy.undone(*deleted, c_.if_changed());
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
  auto status = all.empty() ? Status(Unit{}) : memcached::converse_all(all);
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
  follow(LoneKey{std::string(batch.key(row)), row.copy, batch.from, row.claimed});
}

void WarmEngine::follow(LoneKey lone) {
  if (lone.copy.step() == Step::undo && !c_.has_cas)
    lone.copy.undone(Deleted::changed, IfChanged::drop); // nobody can tell
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
      repair(lone, {}, lone.claimed ? lone.copy.tries() + 1 : 0);
    else if (lone.copy.outcome() == Outcome::present && c_.has_cas)
      present_.push_back(std::move(lone));
    else if (lone.copy.outcome() == Outcome::contested)
      repair(lone, KeyRepair(static_cast<uint8_t>(lone.copy.tries() + 1)), 0);
    else
      count(c_.report, lone.copy.outcome());
  }
}

void WarmEngine::repair(const LoneKey &lone, const KeyRepair &how, unsigned tries) {
  const Look &seen = lone.copy.seen();
  RepairKey k{lone.key, how, lone.from, seen.cas, seen.size, seen.ends};
  k.tries = static_cast<uint8_t>(tries);
  repair_.take(std::move(k));
}

// An add finds them, and clients do not. They are replaced as a repair does it, by their CAS.
Status WarmEngine::replace_placeholders() {
  auto present = std::exchange(present_, {});
  std::vector<std::string> keys;
  keys.reserve(present.size());
  for (const LoneKey &k : present)
    keys.push_back(k.key);
  if (keys.empty())
    return Unit{};
  const auto stand = TRY(find_placeholders(c_.target, c_.target_has_me, c_.clock, keys));
  for (size_t i = 0; i < present.size(); i++) {
    LoneKey &k = present[i];
    const auto tries = static_cast<uint8_t>(k.copy.tries() + 1);
    if (stand[i] == InPlace::item)
      count(c_.report, Outcome::present);
    else if (tries > c_.most_tries())
      count(c_.report, Outcome::undone);
    else if (stand[i] == InPlace::nothing)
      again_.push_back({std::move(k.key), KeyCopy(false, tries), k.from, true});
    else
      repair(k, {}, tries);
  }
  return Unit{};
}

// What remains of a time to live was told at some time between the request and the answer; and
// values have the sizes that they have.
void WarmEngine::note_read(const Batch &batch) {
  const auto late = [](const Row &row) { return row.copy.step() == Step::read; };
  const auto again = std::count_if(batch.rows.begin(), batch.rows.end(), late);
  if (static_cast<uint64_t>(again) > batch.left) {
    most_keys_ = std::max<uint64_t>(1, batch.rows.size() / 2);
    most_bytes_ = std::max<uint64_t>(1, most_bytes_ / 2);
  } else if (batch.left > 0) { // larger than the list has it: as many as there was room for
    most_keys_ = std::max<uint64_t>(1, batch.rows.size() - batch.left);
  } else if (!batch.rows.empty() && monotonic_ns() - batch.read_ns < kStaleNs / 4) {
    if (batch.rows.size() >= most_keys_ && batch.bytes_read <= kMostBytes / 2)
      most_keys_ = std::min(kMostKeys, 2 * most_keys_); // the source had but paused
    most_bytes_ = std::min(kBatchBytes, 2 * most_bytes_);
  }
}

Status WarmEngine::after_exchange(Turn &t) {
  note_read(t.fresh);
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
  // What is stored comes first: where the barrier fails it is to be known.
  if (!t.ready.rows.empty()) {
    t.ready.rows.shrink_to_fit();
    settling_bytes_ += t.ready.bytes();
    settling_.push_back(std::move(t.ready));
  }
  if (!t.fresh.rows.empty()) {
    t.fresh.mark = TRY(c_.barrier.begin());
    drained_.push_back(std::move(t.fresh));
  }
  TRY(replace_placeholders());
  return c_.list.finish(finished());
}

// One turn of the wheel; false: all is done.
Result<bool> WarmEngine::turn() {
  const uint64_t now = monotonic_ns();
  TRY(look_around(now));
  Turn t;
  TRY(choose(t, now));
  if (c_.options.repair || !repair_.is_idle()) {
    std::vector<RepairKey> absent;
    const bool flush = list_ended_ && drained_.empty() && settling_.empty() && again_.empty();
    if (auto status = repair_.step(now, flush || c_.is_stopping(), absent); !status) {
      drained_.push_front(std::move(t.ready)); // begun() and give_back() know them there
      settling_.push_front(std::move(t.due));
      return status.errors();
    }
    for (RepairKey &k : absent)
      again_.push_back({std::move(k.key), KeyCopy(false, std::max(k.tries, k.repair.tries())),
                        k.from, k.tries > 0});
  }
  request(t);
  if (!t.source_request.empty() || !t.target_request.empty() || !t.peeked.empty()) {
    auto status = exchange(t);
    if (status)
      status = confirm_by_peeks(t);
    if (!status) {
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
  uint64_t until = now + (drained_.empty() ? 50 * kMsNs : kMsNs);
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
  c_.report.evicting |= note_evictions(c_, TRY(memcached::stats(c_.target))) > 0;
  return Unit{};
}

// Those that wait for the barrier are not stored yet, but for the batch that was under way.
std::vector<Unconfirmed> WarmEngine::begun() const {
  std::vector<Unconfirmed> keys;
  for (const auto *queue : {&drained_, &settling_})
    for (const Batch &b : *queue)
      for (const Row &row : b.rows)
        if (row.copy.step() != Step::drain && row.copy.step() != Step::done)
          keys.push_back({std::string(b.key(row)), row.copy.seen(), row.copy.stored_cas()});
  return keys;
}

uint64_t WarmEngine::unconfirmed() const {
  return deletes_.size() + repair_.unconfirmed().size() + begun().size();
}

// Those of `keys` that the source has not as they were read.
Result<std::vector<Unconfirmed>> WarmEngine::changed(memcached::Connection &source,
                                                     const std::vector<Unconfirmed> &keys) const {
  enum class State : uint8_t { open, unmoved, same };
  struct Asked {
    const Unconfirmed *key;
    State state = State::open;
  };
  std::vector<Asked> asked;
  asked.reserve(keys.size());
  for (const Unconfirmed &k : keys)
    asked.push_back({&k});
  const auto unnamed = [](const Asked &) {};
  TRY(ask(
      source, asked, [&](const Asked &a) { return !peeks(a.key->key); },
      [](std::string &to, const Asked &a, uint32_t) { return request_look(to, a.key->key); },
      [&](Asked &a, uint32_t, const memcached::Answer &answer) {
        const auto look = look_answer(answer, a.key->key, c_.clock);
        if (look && !look->failed && is_same(look->look, a.key->seen))
          a.state = look->look.ends == kNever ? State::unmoved : State::same;
        return look.has_value();
      },
      unnamed));
  const auto request = [](std::string &to, const Asked &a, uint32_t n) {
    return request_peek(to, a.key->key, n);
  };
  const auto take = [&](Asked &a, uint32_t n, const memcached::Answer &answer) {
    const auto item = read_answer(answer, n, c_.clock);
    if (item && item->won)
      note_token(c_);
    const bool is_there = item && !item->failed && is_same(item->look, a.key->seen);
    a.state = is_there ? State::same : State::open;
    return true;
  };
  TRY(ask(
      source, asked, [](const Asked &a) { return a.state == State::unmoved; }, request, take,
      unnamed));
  TRY(ask_carefully(
      c_, source, asked, [&](const Asked &a) { return peeks(a.key->key); }, request, take,
      unnamed));
  std::vector<Unconfirmed> found;
  for (const Asked &a : asked)
    if (a.state != State::same)
      found.push_back(*a.key);
  return found;
}

// Of a copy that was added nothing is left at the target; one that has replaced something goes only
// if it is still what was stored, where that is known: what came since is the mirror's.
Result<uint64_t> WarmEngine::give_back(memcached::Connection *source,
                                       memcached::Connection &target) {
  std::string request;
  uint64_t asked = 0;
  const auto remove = [&](const std::vector<Unconfirmed> &all, bool whatever) -> Status {
    for (const Unconfirmed &k : source ? TRY(changed(*source, all)) : all) {
      const uint64_t cas = source && k.contested ? k.changed_cas : k.cas;
      if (cas || (source && !k.contested)) // else it is not known to be ours
        asked += request_delete(request, k.key, source && whatever ? 0 : cas);
    }
    return Unit{};
  };
  TRY(remove(begun(), true));
  TRY(remove(repair_.unconfirmed(), false));
  for (const LoneKey &k : deletes_)
    asked += request_delete(request, k.key, 0);
  const uint64_t deleted = asked;
  if (asked > 0)
    TRY(target.converse(request, [&](const memcached::Answer &) { return --asked > 0; }));
  return deleted;
}

} // namespace doppel::migrate
