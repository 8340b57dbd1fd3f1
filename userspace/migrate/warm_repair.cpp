// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm_repair.h"

#include <algorithm>

#include "userspace/migrate/ask.h"
#include "userspace/migrate/side.h"
#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
constexpr size_t kKeys = 1024;          // looked at together
constexpr size_t kValueBytes = 4 << 20; // of their values in memory, about

auto at_step(Step step) {
  return [step](const RepairKey &k) { return k.repair.step() == step; };
}

void fail(RepairKey &k) { k.repair.end(Outcome::failed); }

} // namespace

uint64_t WarmRepair::first() const {
  uint64_t from = UINT64_MAX;
  for (const RepairKey &k : look_)
    from = std::min(from, k.from);
  for (const Parked &p : parked_)
    for (const RepairKey &k : p.keys)
      from = std::min(from, k.from);
  return from;
}

std::vector<std::string> WarmRepair::unconfirmed() const {
  std::vector<std::string> keys;
  for (const Parked &p : parked_)
    for (const RepairKey &k : p.keys)
      if (k.repair.stored_cas())
        keys.push_back(k.key);
  return keys;
}

Status WarmRepair::step(uint64_t now, bool flush, std::vector<RepairKey> &absent) {
  if (!parked_.empty() && parked_.front().due_ns <= now) {
    auto keys = std::move(parked_.front().keys);
    parked_.pop_front();
    std::vector<RepairKey> stored;
    std::erase_if(keys, [&](RepairKey &k) {
      k.repair.settled();
      if (k.repair.step() != Step::confirm)
        return false;
      stored.push_back(std::move(k));
      return true;
    });
    TRY(confirm(std::move(stored), absent));
    TRY(look(std::move(keys), absent));
  }
  if (c_.is_stopping() && !look_.empty())
    look_.clear(); // not compared: they stay in the resume file
  while (look_.size() >= kKeys || (flush && !look_.empty())) {
    const auto n = static_cast<std::ptrdiff_t>(std::min(kKeys, look_.size()));
    std::vector<RepairKey> keys(std::make_move_iterator(look_.end() - n),
                                std::make_move_iterator(look_.end()));
    look_.erase(look_.end() - n, look_.end());
    TRY(look(std::move(keys), absent));
  }
  return Unit{};
}

Status WarmRepair::look(std::vector<RepairKey> keys, std::vector<RepairKey> &absent) {
  std::vector<KeptItem> readings(keys.size());
  TRY(read(keys, readings));
  if (!TRY(pass(c_)))
    return Unit{};
  for (RepairKey &k : keys)
    if (k.repair.step() == Step::drain)
      k.repair.drained();
  TRY(compare(keys, readings));
  TRY(replace(keys, readings));
  sort_out(keys, absent);
  return Unit{};
}

Status WarmRepair::read(std::vector<RepairKey> &keys, std::vector<KeptItem> &readings) {
  size_t bytes = 0;
  TRY(ask(
      c_.source, keys, at_step(Step::read),
      [](std::string &to, const RepairKey &k, uint32_t n) { return request_read(to, k.key, n); },
      [&](RepairKey &k, uint32_t n, const memcached::Answer &answer) {
        const auto item = read_answer(answer, n, c_.clock);
        if (!item)
          return false;
        c_.report.source_gets++;
        if (item->failed) {
          k.repair.end(Outcome::failed);
        } else if (item->stale) {
          k.repair.end(Outcome::stale);
        } else if ((bytes += item->value.size()) > kValueBytes && n > 0) {
          look_.push_back({k.key, k.repair, k.from}); // later, with fewer
          k.repair.end(Outcome::open);
        } else {
          k.repair.read(item->look);
          readings[n] = kept(*item);
        }
        return true;
      },
      fail));
  return Unit{};
}

Status WarmRepair::compare(std::vector<RepairKey> &keys, const std::vector<KeptItem> &readings) {
  return ask(
      c_.target, keys, at_step(Step::compare),
      [](std::string &to, const RepairKey &k, uint32_t n) { return request_read(to, k.key, n); },
      [&](RepairKey &k, uint32_t n, const memcached::Answer &answer) {
        const auto item = read_answer(answer, n, c_.clock);
        if (!item)
          return false;
        k.repair.compared(compared(k.repair.seen(), readings[n], *item));
        return true;
      },
      fail);
}

Status WarmRepair::replace(std::vector<RepairKey> &keys, const std::vector<KeptItem> &readings) {
  for (uint32_t n = 0; n < keys.size(); n++)
    if (RepairKey &k = keys[n]; k.repair.step() == Step::replace) {
      if (is_too_large(c_.target_item_max, k.key.size(), readings[n].value.size()))
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
        if (a)
          k.repair.replaced(a->stored, a->cas);
        return a.has_value();
      },
      fail);
}

Status WarmRepair::confirm(std::vector<RepairKey> keys, std::vector<RepairKey> &absent) {
  TRY(ask(
      c_.source, keys, at_step(Step::confirm),
      [](std::string &to, const RepairKey &k, uint32_t n) { return request_peek(to, k.key, n); },
      [&](RepairKey &k, uint32_t n, const memcached::Answer &answer) {
        const auto item = read_answer(answer, n, c_.clock);
        if (item && item->failed)
          k.repair.confirmed({});
        else if (item)
          k.repair.confirmed(item->look);
        c_.report.source_gets++;
        return item.has_value();
      },
      fail));
  TRY(remove(keys));
  sort_out(keys, absent);
  return Unit{};
}

// What was replaced and did not hold; what changed since then goes in the second round.
Status WarmRepair::remove(std::vector<RepairKey> &keys) {
  for (const Step step : {Step::undo, Step::drop})
    TRY(ask(
        c_.target, keys, at_step(step),
        [step](std::string &to, const RepairKey &k, uint32_t) {
          return request_delete(to, k.key, step == Step::undo ? k.repair.stored_cas() : 0);
        },
        [this, step](RepairKey &k, uint32_t, const memcached::Answer &answer) {
          const auto deleted = delete_answer(answer);
          if (deleted && step == Step::undo)
            k.repair.undone(*deleted, c_.barrier.converges());
          else if (deleted)
            k.repair.dropped();
          return deleted.has_value();
        },
        fail));
  return Unit{};
}

void WarmRepair::sort_out(std::vector<RepairKey> &keys, std::vector<RepairKey> &absent) {
  Parked parked;
  for (RepairKey &k : keys) {
    if (k.repair.step() == Step::settle)
      parked.keys.push_back(std::move(k));
    else if (k.repair.outcome() == Outcome::absent)
      absent.push_back(std::move(k));
    else
      count(c_.report, k.repair.outcome());
  }
  if (parked.keys.empty())
    return;
  parked.due_ns = monotonic_ns() + c_.settle_ns;
  parked_.push_back(std::move(parked));
}

} // namespace doppel::migrate
