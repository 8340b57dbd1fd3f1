// SPDX-License-Identifier: Apache-2.0
// Whether two servers have the same item.
#pragma once

#include <array>
#include <cstdint>

#include "userspace/migrate/walk.h"

namespace doppel::migrate {

// Both servers round to whole seconds, and are asked at about the same moment.
constexpr int64_t kTtlTolerance_s = 2;

// What is kept of an item, so that a walk needs no memory for values.
struct Print {
  Seen::State state = Seen::State::absent;
  bool stale = false, won = false;
  uint64_t flags = 0;
  int64_t ttl = memcached::kNoExpiry;
  uint64_t cas = 0;
  uint64_t size = 0;
  std::array<uint8_t, 32> digest{}; // SHA-256 of the value
  bool is_present() const { return state == Seen::State::present; }
};
Print print_of(const Seen &seen);

// In the order in which a key with several faults counts.
enum class Difference : uint8_t {
  none,
  missing,   // on the target
  different, // another value
  flags,
  ttl,        // by more than kTtlTolerance_s
  extra,      // only on the target
  absent,     // on both
  unreadable, // on either
  stale,      // on the source: the application says that its value is not to be used
};
Difference compare(const Print &source, const Print &target);
// "missing", ...
const char *difference_name(Difference difference);

// Whether the source has what it had: the same item, not a new one with the same value.
bool is_unmoved(const Print &before, const Print &now);

} // namespace doppel::migrate
