// SPDX-License-Identifier: Apache-2.0
// Whether two servers have the same item.
#pragma once

#include <array>
#include <cstdint>

#include "userspace/migrate/walk.h"

namespace doppel::migrate {

// Both servers round to whole seconds. A slow path takes what one tells from another moment than
// what the other does: where that would explain a difference, it is none.
constexpr int64_t kTtlTolerance_s = 2;

// What is kept of an item, so that a walk needs no memory for values.
struct Print {
  Seen::State state = Seen::State::absent;
  bool stale = false, won = false;
  uint64_t flags = 0;
  int64_t ttl = memcached::kNoExpiry;
  uint64_t cas = 0;
  uint64_t size = 0;
  std::array<uint8_t, 32> digest{};       // SHA-256 of the value
  uint64_t asked_ns = 0, answered_ns = 0; // at some moment between them it was as this says
  bool is_present() const { return state == Seen::State::present; }
};
// Of an answer that came just now. `asked_ns`: CLOCK_MONOTONIC.
Print print_of(const Seen &seen, uint64_t asked_ns);

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
