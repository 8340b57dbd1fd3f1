// SPDX-License-Identifier: Apache-2.0
// Plays KeyRepair (warm_policy.h) for keys that the target has: compares, and replaces what
// differs.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "userspace/migrate/warm_context.h"
#include "userspace/migrate/warm_policy.h"

namespace doppel::migrate {

struct RepairKey {
  std::string key;
  KeyRepair repair;
  uint64_t from = 0; // position in the list
};

class WarmRepair {
public:
  explicit WarmRepair(const WarmContext &context) : c_(context) {}

  void take(std::string key, uint64_t from) { look_.push_back({std::move(key), {}, from}); }
  // Does what is due; `flush`: also with few keys. Keys that the target lost go to `absent`.
  Status step(uint64_t now, bool flush, std::vector<RepairKey> &absent);
  bool is_idle() const { return look_.empty() && parked_.empty(); }
  uint64_t next_due_ns() const { return parked_.empty() ? UINT64_MAX : parked_.front().due_ns; }
  uint64_t first() const; // no key of it lies before
  std::vector<std::string> unconfirmed() const;

private:
  struct Parked {
    std::vector<RepairKey> keys;
    uint64_t due_ns = 0;
  };

  Status look(std::vector<RepairKey> keys, std::vector<RepairKey> &absent);
  Status read(std::vector<RepairKey> &keys, std::vector<KeptItem> &readings);
  Status compare(std::vector<RepairKey> &keys, const std::vector<KeptItem> &readings);
  Status replace(std::vector<RepairKey> &keys, const std::vector<KeptItem> &readings);
  Status confirm(std::vector<RepairKey> keys, std::vector<RepairKey> &absent);
  Status remove(std::vector<RepairKey> &keys);
  void sort_out(std::vector<RepairKey> &keys, std::vector<RepairKey> &absent);

  WarmContext c_;
  std::vector<RepairKey> look_;
  std::deque<Parked> parked_; // until settle is over
};

} // namespace doppel::migrate
