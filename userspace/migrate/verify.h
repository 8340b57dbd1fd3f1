// SPDX-License-Identifier: Apache-2.0
// Whether the target has what the source has: a walk that writes nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "userspace/memcached/connection.h"
#include "userspace/migrate/compare.h"
#include "userspace/util/error.h"

namespace doppel::migrate {

struct VerifyOptions {
  std::optional<uint64_t>
      sample; // so many keys of the source, by chance; nothing: all, and both directions
  std::string prefix;
  uint32_t settle_ms = 2000; // between the two looks at what differs
  uint64_t rate = 0;         // keys a second; 0: as fast as it goes
  bool stale_ok = false;     // go on where a read took the application's token
};

// Each key of the list counts once, in one of these but the first two.
struct VerifyCounts {
  uint64_t keys = 0;     // of the source's list, with the prefix
  uint64_t compared = 0; // what a verdict was found for: equal, missing, different, flags, ttl
  uint64_t equal = 0;
  uint64_t missing = 0, different = 0, flags = 0, ttl = 0;
  uint64_t extra = 0;      // only on the target
  uint64_t moving = 0;     // changed between the looks
  uint64_t gone = 0;       // from the source, since its list was made
  uint64_t stale = 0;      // marked so by its application
  uint64_t unreadable = 0; // its name fits in no line of text, or a server answered with an error
  double seconds = 0;
  uint64_t differing() const { return missing + different + flags + ttl + extra; }
  // What a share of equal ones is of: nobody knows of an unreadable one that it is equal.
  uint64_t judged() const { return compared + unreadable; }
};

// The share of the keys that are equal, in 95 of 100 such samples (Wilson's score interval).
struct Interval {
  double low = 0, high = 1;
};
Interval wilson95(uint64_t good, uint64_t of);

struct VerifyHooks {
  std::function<void(const std::string &key, Difference)> differs; // once it is certain
  std::function<void(const VerifyCounts &, uint64_t seen, uint64_t of)> progress;
  std::function<void(const std::string &)> warning;
};

// Both are lists of their own; the target's is asked for only without a sample.
Result<VerifyCounts> verify(memcached::Connection &source, memcached::Connection &target,
                            const VerifyOptions &options, const VerifyHooks &hooks);

} // namespace doppel::migrate
