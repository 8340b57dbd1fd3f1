// SPDX-License-Identifier: Apache-2.0
// One of the two servers that keys are copied between, and what it told of itself.
#pragma once

#include <memory>

#include "userspace/memcached/access.h"
#include "userspace/memcached/connection.h"
#include "userspace/memcached/features.h"
#include "userspace/memcached/stats.h"

namespace doppel::migrate {

struct Side {
  std::unique_ptr<memcached::Connection> connection;
  memcached::Features features;
  memcached::Stats stats, settings;
  bool has_cas() const;           // not -C
  uint64_t item_size_max() const; // -I, bytes; 0: not known
  uint64_t most_flags() const { return memcached::most_flags(settings); }
};

// Errors: it cannot be reached, or knows no meta commands, without which nothing can be copied
// safely.
Result<Side> open_side(const memcached::Server &server, const memcached::Access &access);

// Bytes that memcached's item of such a key and value takes, with its CAS, at most.
size_t item_size(size_t key, size_t value, uint64_t flags);

// No server with `item_size_max` takes an item of such a key and value, bytes.
bool is_too_large(uint64_t item_size_max, size_t key, size_t value, uint64_t flags);

} // namespace doppel::migrate
