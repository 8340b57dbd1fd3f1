// SPDX-License-Identifier: Apache-2.0
// What a sample says of the whole.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace doppel::migrate {

// Lower bound of the Wilson score interval with 95 % confidence (Wilson 1927): the share of the
// whole is not below it, but for one sample in forty. Of no sample: 0.
inline double wilson_lower(uint64_t good, uint64_t of) {
  if (!of)
    return 0;
  constexpr double z = 1.959963984540054; // quantile 0.975 of the normal distribution
  const auto n = static_cast<double>(of);
  const double p = static_cast<double>(good) / n;
  const double middle = p + z * z / (2 * n);
  const double spread = z * std::sqrt(p * (1 - p) / n + z * z / (4 * n * n));
  return std::max(0.0, (middle - spread) / (1 + z * z / n));
}

} // namespace doppel::migrate
