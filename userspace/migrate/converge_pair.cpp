// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/converge_pair.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "doppel/abi.h"
#include "userspace/memcached/meta.h"
#include "userspace/migrate/ask.h"
#include "userspace/util/clock.h"
#include "userspace/util/log.h"

namespace doppel::migrate {
namespace {
// A source that takes longer than that to execute what has arrived is not served right.
constexpr uint64_t kSettleNs = 2 * kSecondNs;
constexpr size_t kMostKeys = 200'000;     // that wait
constexpr size_t kBatch = 1024;           // keys
constexpr size_t kBatchBytes = 4 << 20;   // of their values, about
constexpr uint64_t kAskNs = kSecondNs;    // between two questions whether the servers answer
constexpr uint64_t kPaceNs = 100 * kMsNs; // between two batches that are not full
constexpr size_t kReadAtOnce = 64; // keys: of so many the values are read for nothing, at most
constexpr size_t kDrained = 2;     // batches that wait for the barrier
constexpr uint64_t kReconnectNs = kSecondNs;
constexpr uint64_t kTickNs = 5 * kMsNs; // while something waits for the barrier
constexpr uint64_t kRestNs = 200 * kMsNs;
// What an answer tells of an end varies from one moment to the next. What is nearer than kEndSlack
// by one second here is not further apart than that for who verifies later.
constexpr int32_t kEqualEnds = kEndSlack - 1; // s

using Act = KeyConvergence::Act;
using End = KeyConvergence::End;

template <class Key> void end_unnamed(Key &key) { key.way.end(End::unreadable); }

template <class Key> void end_or_confirm(Key &key, bool unreadable, const Look &look) {
  if (unreadable)
    key.way.end(End::unreadable);
  else
    key.way.confirmed(look);
}

// Remembers which process it is now.
bool is_another(std::string &known, const std::string &now) {
  const bool other = !known.empty() && known != now;
  known = now;
  return other;
}

} // namespace

ConvergePair::ConvergePair(Pair pair, memcached::Access access, StaleKeys &stale)
    : pair_(std::move(pair)), access_(std::move(access)), stale_(stale),
      queue_(kSettleNs, kMostKeys), thread_([this] { run(); }) {}

ConvergePair::~ConvergePair() {
  end();
  thread_.join();
}

void ConvergePair::end() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  woken_.notify_all();
}

void ConvergePair::note(const std::string &key, uint64_t ns, bool stale) {
  if (stale)
    stale_.add(pair_.source.port, key);
  const bool unread = stale_.has(pair_.source.port, key);
  const std::lock_guard lock(mutex_);
  if (unread || !queue_.note(key, ns))
    figures_.missed++;
}

void ConvergePair::renew() {
  const std::lock_guard lock(mutex_);
  renew_ = true;
}

ConvergeFigures ConvergePair::figures() const {
  const std::lock_guard lock(mutex_);
  ConvergeFigures f = figures_;
  f.waiting = queue_.size() + in_work_.size();
  f.oldest_ns = queue_.oldest_ns();
  for (const uint64_t ns : in_work_)
    f.oldest_ns = std::min(f.oldest_ns, ns);
  return f;
}

// Until that time, or until the thread has to end.
void ConvergePair::rest(uint64_t until_ns) {
  std::unique_lock lock(mutex_);
  const uint64_t now = monotonic_ns();
  if (until_ns > now)
    woken_.wait_for(lock, std::chrono::nanoseconds(until_ns - now), [this] { return stop_; });
}

void ConvergePair::run() {
  for (;;) {
    bool renew = false;
    {
      const std::lock_guard lock(mutex_);
      if (stop_) {
        ended_ = true;
        return;
      }
      renew = std::exchange(renew_, false);
    }
    if (renew)
      begin_anew();
    if (!link_) {
      if (const auto linked = link(); !linked) {
        give_up_link(linked.errors());
        continue;
      }
    }
    if (const auto done = turn(monotonic_ns()); !done)
      give_up_link(done.errors());
    else
      rest(next_ns());
  }
}

// What a connection that broke has sent, or a process that died, arrives before the first look. A
// target that was started anew has lost what was repaired, and nobody knows which keys that were.
// One of the source's has lost what is on the target still, and what clients would have deleted
// meanwhile.
Status ConvergePair::link() {
  link_.emplace(TRY(connect(pair_, access_)));
  begin_ns_ = monotonic_ns() + kSettleNs;
  const bool other_source = is_another(source_is_, link_->source_is);
  const bool other_target = is_another(target_is_, link_->target_is);
  if (other_source)
    log_line(Priority::warning, pair_.source.text() + " was started anew: what it had is on the "
                                                      "target still; verify tells, and warm "
                                                      "--delete-extra deletes it");
  if (other_target)
    log_line(Priority::warning, pair_.target.text() + " was started anew: what it has to get is "
                                                      "told by verify, and copied by warm");
  if (const auto limits = differing_limits(*link_); limits != told_) {
    told_ = limits;
    if (!limits.empty())
      log_line(Priority::warning, pair_.text() + ": " + limits);
  }
  const std::lock_guard lock(mutex_);
  figures_.missed += other_source + other_target;
  return Unit{};
}

// What was in work begins anew: what was written is compared once more.
void ConvergePair::begin_anew() {
  link_.reset();
  const uint64_t now = monotonic_ns();
  const std::lock_guard lock(mutex_);
  for (auto *batches : {&drained_, &settling_}) {
    for (Batch &b : *batches)
      for (Key &k : b.keys)
        queue_.put_back(std::move(k.noted), now);
    batches->clear();
  }
  in_work_.clear();
}

void ConvergePair::give_up_link(const Errors &errors) {
  begin_anew();
  const uint64_t now = monotonic_ns();
  {
    const std::lock_guard lock(mutex_);
    if (!figures_.down_ns)
      figures_.down_ns = now;
    figures_.why_down = errors.front().where + " " + errors.front().what;
  }
  rest(now + kReconnectNs);
}

// A server that answers late does late what it has received, too, in whatever order: two writes to
// a key further apart than capture remembers may have changed places.
void ConvergePair::heard(uint64_t &answered_ns) {
  const uint64_t now = monotonic_ns();
  const bool late = answered_ns && now - answered_ns > DP_KEY_RACE_NS;
  answered_ns = now;
  if (!late)
    return;
  const std::lock_guard lock(mutex_);
  figures_.missed++;
}

Status ConvergePair::ask_servers() {
  asked_ns_ = monotonic_ns();
  TRY(ask_nothing(*link_->target.connection));
  heard(target_answered_ns_);
  TRY(ask_nothing(*link_->source.connection));
  heard(source_answered_ns_);
  const std::lock_guard lock(mutex_);
  // With keys that wait it is not known before the first of them is through.
  if (queue_.size() + in_work_.size() == 0)
    works_again();
  return Unit{};
}

// Of the mutex's holder.
void ConvergePair::works_again() {
  figures_.down_ns = 0;
  figures_.why_down.clear();
}

// Each batch looks at all shadows of the mirror.
uint64_t ConvergePair::next_batch_ns() const {
  const std::lock_guard lock(mutex_);
  return std::max(begin_ns_, queue_.size() >= most_ ? 0 : began_ns_ + kPaceNs);
}

uint64_t ConvergePair::next_ns() const {
  const uint64_t now = monotonic_ns();
  uint64_t next = now + (drained_.empty() ? kRestNs : kTickNs);
  if (!settling_.empty())
    next = std::min(next, settling_.front().since_ns + kSettleNs);
  const uint64_t begin = next_batch_ns();
  const std::lock_guard lock(mutex_);
  if (drained_.size() < kDrained)
    next = std::min(next, std::max(queue_.next_due_ns(), begin));
  return next;
}

Status ConvergePair::turn(uint64_t now) {
  if (now - asked_ns_ >= kAskNs)
    TRY(ask_servers());
  if (drained_.size() < kDrained && now >= next_batch_ns())
    TRY(begin_batch(now));
  if (!drained_.empty() && TRY(link_->barrier->is_passed(drained_.front().mark))) {
    Batch batch = std::move(drained_.front());
    drained_.pop_front();
    TRY(write_batch(std::move(batch)));
  }
  if (!settling_.empty() && settling_.front().since_ns + kSettleNs <= now) {
    Batch batch = std::move(settling_.front());
    settling_.pop_front();
    TRY(confirm_batch(std::move(batch)));
  }
  return Unit{};
}

Status ConvergePair::begin_batch(uint64_t now) {
  Batch batch;
  {
    const std::lock_guard lock(mutex_);
    for (NotedKey &k : queue_.take(now, most_)) {
      if (stale_.has(pair_.source.port, k.key)) {
        figures_.missed++;
        continue;
      }
      in_work_.insert(k.first_ns);
      batch.keys.push_back({std::move(k), {}, {}, false});
    }
  }
  if (batch.keys.empty())
    return Unit{};
  began_ns_ = now;
  drained_.push_back(std::move(batch)); // so that a failure finds the keys
  Batch &b = drained_.back();
  b.since_ns = now;
  TRY(read(b.keys));
  b.mark = TRY(link_->barrier->begin());
  return Unit{};
}

Status ConvergePair::read(std::vector<Key> &keys) {
  size_t bytes = 0, from = 0;
  for (; from < keys.size() && bytes < kBatchBytes; from += kReadAtOnce)
    TRY(ask(
        *link_->source.connection, keys,
        [&](const Key &k) {
          const auto at = static_cast<size_t>(&k - keys.data());
          return at >= from && at < from + kReadAtOnce;
        },
        [](std::string &to, const Key &k, uint32_t n) { return request_read(to, k.noted.key, n); },
        [&](Key &k, uint32_t n, const memcached::Answer &answer) {
          return take_read(k, n, answer, bytes);
        },
        end_unnamed<Key>));
  const size_t asked = std::min(from, keys.size());
  most_ = std::clamp<size_t>(kBatchBytes * asked / std::max<size_t>(bytes, 1), 1,
                             std::min(kBatch, most_ * 2));
  sort_out(std::exchange(keys, {}), &drained_.back());
  return Unit{};
}

// Keys whose values are too many to be kept at a time stay at Act::read, and go back.
bool ConvergePair::take_read(Key &key, uint32_t n, const memcached::Answer &answer, size_t &bytes) {
  const auto item = read_answer(answer, n, link_->clock);
  if (!item)
    return false;
  heard(source_answered_ns_);
  if (item->failed || item->stale) {
    key.way.end(End::unreadable);
    if (item->stale) // since before the mirror: the token of one item is taken once
      stale_.add(pair_.source.port, key.noted.key);
    return true;
  }
  const bool has_room = bytes == 0 || bytes + item->value.size() <= kBatchBytes;
  bytes += item->value.size();
  if (has_room) {
    key.way.read(item->look);
    key.claimed = item->claimed.has_value();
    key.reading = kept(*item);
  }
  return true;
}

// Behind a mirror that has ended clients may write to the target already: it is asked before what
// they would write is compared, and once more before that is overwritten.
Status ConvergePair::write_batch(Batch batch) {
  settling_.push_back(std::move(batch)); // so that a failure finds the keys
  Batch &b = settling_.back();
  TRY(link_->barrier->check());
  for (Key &k : b.keys)
    if (k.way.act() == Act::drain)
      k.way.drained();
  TRY(compare(b.keys));
  for (Key &k : b.keys)
    check(k);
  TRY(link_->barrier->check());
  TRY(store(b.keys));
  TRY(remove(b.keys));
  b.since_ns = monotonic_ns();
  auto keys = std::exchange(b.keys, {});
  sort_out(std::move(keys), &b);
  if (b.keys.empty())
    settling_.pop_back();
  return Unit{};
}

Status ConvergePair::compare(std::vector<Key> &keys) {
  return ask(
      *link_->target.connection, keys, [](const Key &k) { return k.way.act() == Act::compare; },
      [](std::string &to, const Key &k, uint32_t n) { return request_read(to, k.noted.key, n); },
      [&](Key &k, uint32_t n, const memcached::Answer &answer) {
        const auto item = read_answer(answer, n, link_->clock);
        if (!item)
          return false;
        heard(target_answered_ns_);
        if (item->failed)
          k.way.end(End::unreadable);
        else
          k.way.compared(compared(k.way.seen(), k.reading, *item, kEqualEnds));
        if (k.way.act() == Act::settle)
          k.reading = {}; // it is equal
        return true;
      },
      end_unnamed<Key>);
}

// What cannot be stored now.
void ConvergePair::check(Key &k) const {
  if (k.way.act() != Act::add && k.way.act() != Act::replace)
    return;
  const Look &seen = k.way.seen();
  if (is_too_large(link_->target.item_size_max(), k.noted.key.size(), k.reading.value.size(),
                   k.reading.flags) ||
      k.reading.flags > link_->target.most_flags())
    k.way.end(End::refused);
  else if (seen.ends != kNever && seen.ends - link_->clock.now() < 2)
    k.way.again(); // it ends before the copy would
}

Status ConvergePair::store(std::vector<Key> &keys) {
  return ask(
      *link_->target.connection, keys,
      [](const Key &k) { return k.way.act() == Act::add || k.way.act() == Act::replace; },
      [&](std::string &to, const Key &k, uint32_t n) {
        StoreRequest s = store_of(k.noted.key, k.reading, link_->clock);
        s.compare = k.way.act() == Act::replace ? k.way.target_cas() : 0;
        s.source_cas = link_->copies_cas ? k.way.seen().cas : 0;
        s.opaque = n;
        return request_store(to, s);
      },
      [this](Key &k, uint32_t n, const memcached::Answer &answer) {
        heard(target_answered_ns_);
        const auto a = store_answer(answer, n);
        if (a)
          k.way.stored(a->stored);
        k.reading = {};
        return a.has_value();
      },
      end_unnamed<Key>);
}

Status ConvergePair::remove(std::vector<Key> &keys) {
  return ask(
      *link_->target.connection, keys, [](const Key &k) { return k.way.act() == Act::remove; },
      [](std::string &to, const Key &k, uint32_t) {
        return request_delete(to, k.noted.key, k.way.target_cas());
      },
      [this](Key &k, uint32_t, const memcached::Answer &answer) {
        heard(target_answered_ns_);
        const auto deleted = delete_answer(answer);
        if (deleted)
          k.way.removed(*deleted);
        return deleted.has_value();
      },
      end_unnamed<Key>);
}

Status ConvergePair::confirm_batch(Batch batch) {
  settling_.push_front(std::move(batch)); // so that a failure finds the keys
  Batch &b = settling_.front();
  for (Key &k : b.keys)
    k.way.settled();
  leave_stale_ones(b.keys);
  TRY(ask_servers()); // a target that was started anew has none of them
  TRY(confirm(b.keys, true));
  TRY(confirm(b.keys, false));
  sort_out(std::exchange(b.keys, {}), nullptr);
  settling_.pop_front();
  const std::lock_guard lock(mutex_);
  works_again();
  return Unit{};
}

// Marked so while it rested: a peek would take the token.
void ConvergePair::leave_stale_ones(std::vector<Key> &keys) {
  for (Key &k : keys)
    if (stale_.has(pair_.source.port, k.noted.key))
      k.way.end(End::unreadable);
}

// `me` of 1.6.18 tells one second from never for no item, and repeats plain keys only. It tells no
// size of the value: where clients may choose the CAS (E), the same one may be that of another
// value.
bool ConvergePair::is_confirmed_by_me(const Key &k) const {
  const Look &seen = k.way.seen();
  return link_->source.features.me && !link_->source.features.set_cas &&
         memcached::is_plain_key(k.noted.key) && !k.claimed && !(seen.there && seen.ends == kNever);
}

Status ConvergePair::confirm(std::vector<Key> &keys, bool by_me) {
  return ask(
      *link_->source.connection, keys,
      [&](const Key &k) { return k.way.act() == Act::confirm && is_confirmed_by_me(k) == by_me; },
      [&](std::string &to, const Key &k, uint32_t n) {
        return by_me ? request_look(to, k.noted.key) : request_peek(to, k.noted.key, n);
      },
      [&](Key &k, uint32_t n, const memcached::Answer &answer) {
        if (by_me) {
          const auto a = look_answer(answer, k.noted.key, link_->clock);
          if (a)
            end_or_confirm(k, a->failed, a->look);
          return a.has_value();
        }
        const auto item = read_answer(answer, n, link_->clock);
        if (item && item->stale)
          stale_.add(pair_.source.port, k.noted.key);
        if (item)
          end_or_confirm(k, item->failed || item->stale, item->look);
        return item.has_value();
      },
      end_unnamed<Key>);
}

// Counts what is done, puts back what begins anew, and leaves the rest in *left.
void ConvergePair::sort_out(std::vector<Key> keys, Batch *left) {
  const uint64_t now = monotonic_ns();
  const std::lock_guard lock(mutex_);
  for (Key &k : keys) {
    if (k.way.act() != Act::done && k.way.act() != Act::read) {
      left->keys.push_back(std::move(k));
      continue;
    }
    in_work_.erase(in_work_.find(k.noted.first_ns));
    switch (k.way.ended()) {
    case End::open:
      if (k.way.was_equal()) // and has moved since: it has not differed all the time
        k.noted.first_ns = now;
      queue_.put_back(std::move(k.noted), now);
      break;
    case End::equal:
      figures_.equal++;
      break;
    case End::repaired:
      figures_.repaired++;
      break;
    case End::deleted:
      figures_.deleted++;
      break;
    case End::unreadable:
    case End::refused:
      figures_.failed++;
      break;
    }
  }
}

} // namespace doppel::migrate
