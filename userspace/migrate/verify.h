// SPDX-License-Identifier: Apache-2.0
// Whether the target has what the source has: a walk that writes nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "userspace/memcached/connection.h"
#include "userspace/migrate/compare.h"
#include "userspace/migrate/verify_counts.h"
#include "userspace/migrate/verify_file.h"
#include "userspace/util/error.h"

namespace doppel::migrate {

struct VerifyOptions {
  std::optional<uint64_t>
      sample; // so many keys of the source, by chance; nothing: all, and both directions
  bool both_ways = false; // with a sample: as many keys of the target as well
  std::string prefix;
  uint32_t settle_ms = 2000; // between the two looks at what differs
  uint64_t rate = 0;         // keys a second; 0: as fast as it goes
  bool stale_ok = false;     // go on where a read took the application's token
};

// The share of the keys that are equal, in 95 of 100 such samples: Wilson's score interval, with
// the variance of a sample that is drawn without putting back from so many keys (Cochran, Sampling
// Techniques, 3.2). Where all keys were looked at it is the share itself.
struct Interval {
  double low = 0, high = 1;
};
Interval wilson95(uint64_t good, uint64_t of, uint64_t population);

struct VerifyHooks {
  // Once it is certain. An error ends the walk.
  std::function<Status(const std::string &key, Difference)> differs;
  std::function<void(const VerifyCounts &, uint64_t seen, uint64_t of)> progress;
  std::function<void(const std::string &)> warning;
  std::function<uint64_t()> listed; // bytes that `differs` has written
};

// What a file of a verify is of, but for its servers' starts.
std::string identity(const memcached::Connection &source, const memcached::Connection &target,
                     const VerifyOptions &options);

// Both are lists of their own; the target's is asked for only without a sample. `file`: of these
// servers and options, without a sample.
Result<VerifyCounts> verify(memcached::Connection &source, memcached::Connection &target,
                            const VerifyOptions &options, const VerifyHooks &hooks,
                            VerifyFile &file);

} // namespace doppel::migrate
