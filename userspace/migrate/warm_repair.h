// SPDX-License-Identifier: Apache-2.0
// Plays KeyRepair (warm_policy.h) for keys that the target has: compares, and replaces what
// differs.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "userspace/migrate/pressure.h"
#include "userspace/migrate/warm_context.h"
#include "userspace/migrate/warm_policy.h"

namespace doppel::migrate {

struct RepairKey {
  std::string key;
  KeyRepair repair;
  uint64_t from = 0;      // position in the list
  uint64_t known_cas = 0; // of the item at the source when it was not stale; 0: not known
  uint32_t size = 0;      // of its value then, bytes, about
  int32_t ends = kNever;  // and when it ended then
  bool unmoved = false;   // it still has that CAS: a read takes nobody's token
  // Of a copy that found a placeholder at the target, which nobody else fills for the source: with
  // this one it has taken so many tries.
  uint8_t tries = 0;
};

// A copy at the target that nobody has confirmed.
struct Unconfirmed {
  std::string key;
  Look seen;        // at the source, when it was read
  uint64_t cas = 0; // of the copy; 0: not known, also whether it is there
  // Something else has changed it: with that CAS, as far as is known.
  bool contested = false;
  uint64_t changed_cas = 0;
};

class WarmRepair {
public:
  // No more keys are given to one that holds so much.
  static constexpr uint64_t kMostHeld = 26 << 20;

  WarmRepair(const WarmContext &context, Pressure &pace) : c_(context), pace_(pace) {}

  void take(RepairKey key);
  // Does what is due, and no more than the pace allows; `flush`: also with few keys. Keys that the
  // target lost go to `absent`, and those of placeholders that moved.
  Status step(uint64_t now, bool flush, std::vector<RepairKey> &absent);
  bool is_idle() const { return look_.empty() && parked_.empty() && stored_.empty(); }
  uint64_t next_due_ns() const;
  uint64_t first() const;                 // no key of it lies before
  uint64_t held() const { return held_; } // bytes of memory
  std::vector<Unconfirmed> unconfirmed() const;

private:
  struct Parked {
    std::vector<RepairKey> keys;
    uint64_t due_ns = 0;
    uint64_t from = UINT64_MAX; // no key of it lies before
  };
  using Queue = std::deque<Parked>;

  void queue(RepairKey key);
  void abandon();
  bool has_enough(bool flush) const;
  std::vector<RepairKey> next_keys();
  Status look_at_both(std::vector<RepairKey> &keys);
  Status look(std::vector<RepairKey> keys, std::vector<RepairKey> &absent);
  Status leave_moved(std::vector<RepairKey> &keys);
  Status read(std::vector<RepairKey> &keys, std::vector<KeptItem> &readings);
  bool take_read(RepairKey &k, uint32_t n, const memcached::Answer &answer, KeptItem &reading,
                 uint64_t &bytes);
  Status compare(std::vector<RepairKey> &keys, const std::vector<KeptItem> &readings);
  Status replace(std::vector<RepairKey> &keys, const std::vector<KeptItem> &readings);
  Status confirm(std::vector<RepairKey> &keys);
  Status confirm_by_look(std::vector<RepairKey> &keys);
  Status remove(std::vector<RepairKey> &keys);
  void give_up(const RepairKey &k);
  void sort_out(std::vector<RepairKey> &keys, std::vector<RepairKey> &absent);
  bool can_look(const RepairKey &k) const;

  WarmContext c_;
  Pressure &pace_;
  std::deque<RepairKey> look_; // for the first time, or after settle once more
  Queue parked_, stored_;      // until settle is over: for the second look, to be confirmed
  uint64_t held_ = 0;
  uint64_t left_ = UINT64_MAX; // no key that was abandoned lies before
};

} // namespace doppel::migrate
