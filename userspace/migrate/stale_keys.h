// SPDX-License-Identifier: Apache-2.0
// Keys whose item may be marked as stale. They are never read: whoever reads one first takes the
// token by which one of the application's clients is to renew it. The map `stale_keys` keeps them
// for a process that takes up the work.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

#include "userspace/mirror/maps.h"

namespace doppel::migrate {

class StaleKeys {
public:
  // With those that an earlier process remembered.
  static Result<std::unique_ptr<StaleKeys>> open(const Pins &pins);

  // Of any thread. `port`: of the source, host order; its addresses are those of one server. Where
  // there are more than can be remembered, every key is taken for one.
  void add(uint16_t port, const std::string &key);
  bool has(uint16_t port, const std::string &key) const;

private:
  explicit StaleKeys(MapTable table) : table_(std::move(table)) {}
  Status read();

  const MapTable table_;
  mutable std::mutex mutex_; // guards what follows
  std::unordered_set<uint64_t> digests_;
  bool too_many_ = false;
};

} // namespace doppel::migrate
