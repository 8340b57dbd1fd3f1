// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm_repair.h"

#include <algorithm>
#include <utility>

#include "userspace/memcached/meta.h"
#include "userspace/migrate/ask.h"
#include "userspace/migrate/side.h"
#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
constexpr size_t kKeys = 1024;            // looked at together
constexpr uint64_t kValueBytes = 4 << 20; // of their values in memory, about
constexpr int kLooksAtOnce = 8;           // of one step, before others have their turn

auto at_step(Step step) {
  return [step](const RepairKey &k) { return k.repair.step() == step; };
}

void fail(RepairKey &k) { k.repair.end(Outcome::failed); }

uint64_t bytes_of(const RepairKey &k) {
  constexpr uint64_t kOnHeap = 24; // what an allocation costs beside its bytes
  return sizeof(RepairKey) + k.key.capacity() + kOnHeap;
}

// What the source's item had when it was read and was not stale; 0: it was not read.
uint64_t cas_before(const RepairKey &k) {
  return k.repair.is_second() ? k.repair.seen().cas : k.known_cas;
}

uint32_t size_before(const RepairKey &k) {
  return k.repair.is_second() ? k.repair.seen().size : k.size;
}

Look as_copied(const RepairKey &k) { return {true, k.known_cas, k.size, k.ends}; }

// What proves equal was copied by us, or by the mirror after us.
Outcome outcome_of(const RepairKey &k, bool repair) {
  const Outcome o = k.repair.outcome();
  const bool ours = o == Outcome::present || o == Outcome::repaired;
  if (k.tries && o == Outcome::repaired && !repair)
    return Outcome::added;
  return k.repair.is_contested() && ours ? Outcome::added : o;
}

// Not left to wait for others: what has settled, what is contested, and what a copy waits for.
bool is_urgent(const RepairKey &k) {
  return k.repair.is_second() || k.repair.is_contested() || k.tries;
}

} // namespace

void WarmRepair::take(RepairKey key) {
  held_ += bytes_of(key);
  queue(std::move(key));
}

// Contested ones come first: their copies are at the target, and may be wrong.
void WarmRepair::queue(RepairKey key) {
  if (is_urgent(key))
    look_.push_front(std::move(key));
  else
    look_.push_back(std::move(key));
}

uint64_t WarmRepair::first() const {
  uint64_t from = left_;
  for (const RepairKey &k : look_)
    from = std::min(from, k.from);
  for (const auto *queue : {&parked_, &stored_})
    for (const Parked &p : *queue)
      from = std::min(from, p.from);
  return from;
}

uint64_t WarmRepair::next_due_ns() const {
  uint64_t due = UINT64_MAX;
  for (const auto *queue : {&parked_, &stored_})
    if (!queue->empty())
      due = std::min(due, queue->front().due_ns);
  return has_enough(false) ? std::min(due, pace_.next_ns()) : due;
}

// What was asked to be replaced may be, though nobody heard of it. A contested copy is at the
// target, as something else has made it.
std::vector<Unconfirmed> WarmRepair::unconfirmed() const {
  std::vector<Unconfirmed> keys;
  const auto take = [&](const RepairKey &k) {
    const Step step = k.repair.step();
    if (step == Step::done)
      return;
    if (k.repair.is_contested())
      keys.push_back({k.key, k.repair.seen().there ? k.repair.seen() : as_copied(k),
                      k.repair.stored_cas(), true, k.repair.undo_cas()});
    else if (step == Step::replace || k.repair.stored_cas())
      keys.push_back({k.key, k.repair.seen(), k.repair.stored_cas()});
  };
  std::for_each(look_.begin(), look_.end(), take);
  for (const auto *queue : {&parked_, &stored_})
    for (const Parked &p : *queue)
      std::for_each(p.keys.begin(), p.keys.end(), take);
  return keys;
}

Status WarmRepair::step(uint64_t now, bool flush, std::vector<RepairKey> &absent) {
  if (c_.is_stopping())
    abandon();
  while (!stored_.empty() && stored_.front().due_ns <= now) {
    TRY(confirm(stored_.front().keys)); // where that fails they are not confirmed
    auto keys = std::move(stored_.front().keys);
    stored_.pop_front();
    sort_out(keys, absent);
  }
  for (; !parked_.empty() && parked_.front().due_ns <= now; parked_.pop_front())
    for (RepairKey &k : parked_.front().keys) {
      k.repair.settled();
      queue(std::move(k));
    }
  for (int i = 0; i < kLooksAtOnce && has_enough(flush) && !c_.is_stopping(); i++) {
    const uint64_t begin_ns = monotonic_ns();
    if (pace_.next_ns() > begin_ns)
      break;
    auto keys = next_keys();
    pace_.took(keys.size(), begin_ns);
    TRY(look(std::move(keys), absent));
  }
  return Unit{};
}

// What is not stored is not compared any more: it stays in the resume file.
void WarmRepair::abandon() {
  const auto leave = [this](const RepairKey &k) {
    held_ -= bytes_of(k);
    give_up(k);
  };
  std::for_each(look_.begin(), look_.end(), leave);
  for (const Parked &p : parked_)
    std::for_each(p.keys.begin(), p.keys.end(), leave);
  look_.clear();
  parked_.clear();
}

bool WarmRepair::has_enough(bool flush) const {
  if (look_.empty())
    return false;
  return flush || is_urgent(look_.front()) ||
         look_.size() >= std::min<uint64_t>(kKeys, pace_.most_keys());
}

// As many as fit in memory with their values.
std::vector<RepairKey> WarmRepair::next_keys() {
  const uint64_t most = std::min<uint64_t>(kKeys, pace_.most_keys());
  std::vector<RepairKey> keys;
  for (uint64_t bytes = 0; !look_.empty() && keys.size() < most; look_.pop_front()) {
    bytes += size_before(look_.front());
    if (!keys.empty() && bytes > kValueBytes)
      break;
    keys.push_back(std::move(look_.front()));
  }
  return keys;
}

Status WarmRepair::look_at_both(std::vector<RepairKey> &keys) {
  std::vector<KeptItem> readings(keys.size());
  TRY(read(keys, readings));
  if (!TRY(pass(c_)))
    return Unit{};
  for (RepairKey &k : keys)
    if (k.repair.step() == Step::drain)
      k.repair.drained();
  TRY(compare(keys, readings));
  TRY(replace(keys, readings));
  return remove(keys);
}

Status WarmRepair::look(std::vector<RepairKey> keys, std::vector<RepairKey> &absent) {
  if (auto status = look_at_both(keys); !status) {
    stored_.push_front({std::move(keys), 0, 0}); // some may be stored, and are not confirmed
    return status;
  }
  sort_out(keys, absent);
  return Unit{};
}

// `me` takes no token, and its answer fits a plain key.
bool WarmRepair::can_look(const RepairKey &k) const {
  return c_.has_me && memcached::is_plain_key(k.key);
}

// To mark an item as stale is a write, which gives it another CAS. So what still has the one of a
// read that found it not stale can be read, and what has moved since the first look need not be,
// unless it is contested.
Status WarmRepair::leave_moved(std::vector<RepairKey> &keys) {
  for (RepairKey &k : keys)
    k.unmoved = false;
  if (c_.options.stale_ok)
    return Unit{};
  return ask(
      c_.source, keys,
      [this](const RepairKey &k) {
        return k.repair.step() == Step::read && cas_before(k) != 0 && can_look(k);
      },
      [](std::string &to, const RepairKey &k, uint32_t) { return request_look(to, k.key); },
      [&](RepairKey &k, uint32_t, const memcached::Answer &answer) {
        const auto a = look_answer(answer, k.key, c_.clock);
        if (!a)
          return false;
        if (a->failed)
          fail(k);
        else if (a->look.cas == cas_before(k))
          k.unmoved = true;
        else if (!a->look.there || (k.repair.is_second() && !k.repair.is_contested()))
          k.repair.read(a->look); // gone, or moving
        return true;
      },
      fail);
}

Status WarmRepair::read(std::vector<RepairKey> &keys, std::vector<KeptItem> &readings) {
  TRY(leave_moved(keys));
  uint64_t bytes = 0;
  const auto request = [](std::string &to, const RepairKey &k, uint32_t n) {
    return request_read(to, k.key, n);
  };
  const auto take = [&](RepairKey &k, uint32_t n, const memcached::Answer &answer) {
    return take_read(k, n, answer, readings[n], bytes);
  };
  const auto is_wanted = at_step(Step::read);
  TRY(ask(
      c_.source, keys, [&](const RepairKey &k) { return k.unmoved && is_wanted(k); }, request, take,
      fail));
  return ask_carefully(
      c_, c_.source, keys, [&](const RepairKey &k) { return !k.unmoved && is_wanted(k); }, request,
      take, fail);
}

bool WarmRepair::take_read(RepairKey &k, uint32_t n, const memcached::Answer &answer,
                           KeptItem &reading, uint64_t &bytes) {
  const auto item = read_source(c_, answer, n);
  if (!item)
    return false;
  const uint64_t size = item->value.size();
  if (item->failed) {
    k.repair.end(Outcome::failed);
  } else if (item->stale) {
    k.repair.end(Outcome::stale);
  } else if (k.repair.is_second() && !k.repair.is_contested() &&
             !is_same(k.repair.seen(), item->look)) {
    k.repair.read(item->look);                          // moving
  } else if (bytes > 0 && bytes + size > kValueBytes) { // one has grown: later
    RepairKey later = k;
    later.size = static_cast<uint32_t>(size);
    later.unmoved = false;
    take(std::move(later));
    k.repair.end(Outcome::open);
  } else {
    bytes += size;
    k.repair.read(item->look);
    k.known_cas = item->look.cas;
    k.size = static_cast<uint32_t>(size);
    reading = kept(*item);
  }
  return true;
}

Status WarmRepair::compare(std::vector<RepairKey> &keys, const std::vector<KeptItem> &readings) {
  return ask(
      c_.target, keys, at_step(Step::compare),
      [](std::string &to, const RepairKey &k, uint32_t n) { return request_read(to, k.key, n); },
      [&](RepairKey &k, uint32_t n, const memcached::Answer &answer) {
        const auto item = read_answer(answer, n, c_.clock);
        if (!item)
          return false;
        if (item->claimed) // what moves is not brought by the mirror
          k.tries = std::max<uint8_t>(k.tries, 1);
        if (item->failed)
          fail(k);
        else if (!c_.options.repair && !k.repair.is_contested() && item->look.there)
          k.repair.end(Outcome::present); // filled meanwhile
        else
          k.repair.compared(compared(k.repair.seen(), readings[n], *item));
        return true;
      },
      fail);
}

Status WarmRepair::replace(std::vector<RepairKey> &keys, const std::vector<KeptItem> &readings) {
  for (uint32_t n = 0; n < keys.size(); n++)
    if (RepairKey &k = keys[n]; k.repair.step() == Step::replace) {
      if (is_too_large(c_.target_item_max, k.key.size(), readings[n].value.size(),
                       readings[n].flags))
        k.repair.end(Outcome::too_large);
      else if (readings[n].flags > c_.target_most_flags)
        k.repair.end(Outcome::wide_flags);
      else if (k.repair.seen().ends != kNever && k.repair.seen().ends - c_.clock.now() < 2)
        k.repair.end(Outcome::gone);
      else if (c_.options.dry_run)
        k.repair.end(Outcome::repaired);
    }
  return ask(
      c_.target, keys, at_step(Step::replace),
      [&](std::string &to, const RepairKey &k, uint32_t n) {
        StoreRequest s = store_of(k.key, readings[n], c_.clock);
        s.compare = k.repair.target_cas();
        s.source_cas = c_.copies_cas ? k.repair.seen().cas : 0;
        s.opaque = n;
        return request_store(to, s);
      },
      [&](RepairKey &k, uint32_t n, const memcached::Answer &answer) {
        const auto a = store_answer(answer, n);
        if (!a)
          return false;
        c_.report.evicting = c_.report.evicting || a->out_of_memory;
        if (a->out_of_memory && c_.refuses_when_full)
          k.repair.end(Outcome::absent); // it has deleted what was there
        else
          k.repair.replaced(a->stored, a->cas);
        return true;
      },
      fail);
}

// By `me` as far as that tells: of what moved, and of what ends.
Status WarmRepair::confirm_by_look(std::vector<RepairKey> &keys) {
  return ask(
      c_.source, keys,
      [this](const RepairKey &k) { return k.repair.step() == Step::confirm && can_look(k); },
      [](std::string &to, const RepairKey &k, uint32_t) { return request_look(to, k.key); },
      [&](RepairKey &k, uint32_t, const memcached::Answer &answer) {
        const auto a = look_answer(answer, k.key, c_.clock);
        if (!a)
          return false;
        k.unmoved = is_same(k.repair.seen(), a->look);
        if (!k.unmoved || k.repair.seen().ends != kNever) // else it may be one second (1.6.18)
          k.repair.confirmed(a->look, c_.if_changed());
        return true;
      },
      fail);
}

Status WarmRepair::confirm(std::vector<RepairKey> &keys) {
  for (RepairKey &k : keys) {
    if (k.repair.step() == Step::settle)
      k.repair.settled();
    k.unmoved = false;
  }
  TRY(confirm_by_look(keys));
  const auto request = [](std::string &to, const RepairKey &k, uint32_t n) {
    return request_peek(to, k.key, n);
  };
  const auto take = [&](RepairKey &k, uint32_t n, const memcached::Answer &answer) {
    const auto item = read_source(c_, answer, n);
    if (!item)
      return false;
    k.repair.confirmed(item->failed ? Look{} : item->look, c_.if_changed());
    return true;
  };
  const auto is_wanted = at_step(Step::confirm);
  TRY(ask(
      c_.source, keys, [&](const RepairKey &k) { return k.unmoved && is_wanted(k); }, request, take,
      fail));
  TRY(ask_carefully(c_, c_.source, keys, is_wanted, request, take, fail));
  for (RepairKey &k : keys)
    if (is_wanted(k))
      k.repair.confirmed({}, c_.if_changed()); // nobody asks any more: it is taken back
  return remove(keys);
}

// What was replaced and did not hold; of contested ones also what the source does not have.
Status WarmRepair::remove(std::vector<RepairKey> &keys) {
  return ask(
      c_.target, keys, at_step(Step::undo),
      [](std::string &to, const RepairKey &k, uint32_t) {
        return request_delete(to, k.key, k.repair.undo_cas());
      },
      [this](RepairKey &k, uint32_t, const memcached::Answer &answer) {
        const auto deleted = delete_answer(answer);
        if (deleted)
          k.repair.undone(*deleted, c_.if_changed());
        return deleted.has_value();
      },
      fail);
}

// What is contested and not looked at any more stays as it is.
void WarmRepair::give_up(const RepairKey &k) {
  left_ = std::min(left_, k.from);
  c_.report.undone += k.repair.is_contested() ? 1 : 0;
}

void WarmRepair::sort_out(std::vector<RepairKey> &keys, std::vector<RepairKey> &absent) {
  Parked looked, stored;
  for (RepairKey &k : keys) {
    if (k.repair.step() == Step::settle) {
      Parked &to = k.repair.is_to_confirm() ? stored : looked;
      to.from = std::min(to.from, k.from);
      to.keys.push_back(std::move(k));
      continue;
    }
    if (k.repair.step() == Step::read) { // once more, or a token was taken: then it is abandoned
      queue(std::move(k));
      continue;
    }
    held_ -= bytes_of(k);
    if (k.repair.step() != Step::done)
      give_up(k); // interrupted
    else if (k.tries >= c_.most_tries() && k.repair.outcome() == Outcome::moving)
      count(c_.report, Outcome::undone);
    else if (k.repair.outcome() == Outcome::absent ||
             (k.tries && k.repair.outcome() == Outcome::moving))
      absent.push_back(std::move(k));
    else
      count(c_.report, outcome_of(k, c_.options.repair));
  }
  for (auto [parked, to] : {std::pair{&looked, &parked_}, std::pair{&stored, &stored_}}) {
    if (parked->keys.empty())
      continue;
    parked->keys.shrink_to_fit();
    parked->due_ns = monotonic_ns() + c_.settle_ns;
    to->push_back(std::move(*parked));
  }
}

} // namespace doppel::migrate
