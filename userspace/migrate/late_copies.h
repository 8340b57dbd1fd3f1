// SPDX-License-Identifier: Apache-2.0
// Whether copies come to the target later than capture remembers who has written to a key
// (DP_KEY_RACE_NS): then the order of two writes may be another one there, and no note tells. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "doppel/abi.h"

namespace doppel::migrate {

class LateCopies {
public:
  // `looked_ns`: when somebody else looked last; 0: nobody did.
  explicit LateCopies(uint64_t looked_ns = 0) : looked_ns_(looked_ns) {}

  // All shadows at that moment (CLOCK_MONOTONIC), as often as every kPeriodNs; those of the mapping
  // with that row count. True: since the last look bytes have been later than that, or may have
  // been.
  bool look(const std::vector<dp_shadow> &shadows, uint32_t row, uint64_t now);

  static constexpr uint64_t kPeriodNs = 500'000'000;

private:
  // What a shadow had not delivered when it was looked at.
  struct Behind {
    uint32_t gen, end;
    uint64_t since_ns;
  };
  std::map<uint32_t, Behind> behind_; // by slot
  uint64_t looked_ns_;                // 0: never
};

} // namespace doppel::migrate
