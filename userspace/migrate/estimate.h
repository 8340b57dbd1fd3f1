// SPDX-License-Identifier: Apache-2.0
// When a share that grows will reach its limit. Pure.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "userspace/migrate/ready.h"

namespace doppel::migrate {

// Seconds from the last point on until a straight line through `points` (seconds, share) reaches
// `limit`: least squares. Nothing: fewer than three points, it does not grow, or it would take more
// than thirty days.
std::optional<uint64_t> seconds_until(const std::deque<std::pair<double, double>> &points,
                                      double limit);

// What `doppel ready --watch` learns window by window.
class Estimate {
public:
  // Of the findings of a window that ended at `now_s`, any clock: when all will be met. Nothing:
  // they are, or one that is not met is no share that grows.
  std::optional<uint64_t> after(double now_s, const std::vector<Finding> &findings);

private:
  std::map<std::string, std::deque<std::pair<double, double>>> seen_; // by criterion and subject
};

} // namespace doppel::migrate
