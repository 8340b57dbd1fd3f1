// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/late_copies.h"

#include <utility>

#include "userspace/mirror/maps.h"

namespace doppel::migrate {
namespace {
// What is still behind by then will not come in time.
constexpr uint64_t kLateNs = DP_KEY_RACE_NS - 2 * LateCopies::kPeriodNs;

} // namespace

// What came since the last look may have come right behind it.
bool LateCopies::look(const std::vector<dp_shadow> &shadows, uint32_t row, uint64_t now) {
  std::map<uint32_t, Behind> behind;
  bool late = looked_ns_ && now - looked_ns_ > DP_KEY_RACE_NS;
  for (uint32_t slot = 0; slot < shadows.size(); slot++) {
    const dp_shadow &s = shadows[slot];
    if (s.ep.key.mapping != row || is_over(s) || !is_behind(s.tcp.una, s.tcp.end))
      continue;
    Behind b{s.gen, s.tcp.end, looked_ns_ ? looked_ns_ : now};
    if (const auto before = behind_.find(slot); before != behind_.end()) {
      if (before->second.gen == s.gen && is_behind(s.tcp.una, before->second.end))
        b = before->second;
    }
    if (now - b.since_ns >= kLateNs) {
      late = true;
      b = {s.gen, s.tcp.end, now}; // to be told again if it goes on
    }
    behind.emplace(slot, b);
  }
  for (const auto &[slot, b] : behind_) // delivered since, if it is: nobody knows when
    late = late || now - b.since_ns > DP_KEY_RACE_NS;
  behind_ = std::move(behind);
  looked_ns_ = now;
  return late;
}

} // namespace doppel::migrate
