// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/estimate.h"

#include <algorithm>
#include <cmath>

namespace doppel::migrate {
namespace {
constexpr size_t kPoints = 10; // older ones tell of another pace
constexpr double kMost = 30 * 86400.0;

} // namespace

std::optional<uint64_t> seconds_until(const std::deque<std::pair<double, double>> &points,
                                      double limit) {
  if (points.size() < 3)
    return std::nullopt;
  const auto n = static_cast<double>(points.size());
  double mean_x = 0, mean_y = 0, xx = 0, xy = 0;
  for (const auto &[x, y] : points) {
    mean_x += x / n;
    mean_y += y / n;
  }
  for (const auto &[x, y] : points) {
    xx += (x - mean_x) * (x - mean_x);
    xy += (x - mean_x) * (y - mean_y);
  }
  if (xx <= 0 || xy <= 0)
    return std::nullopt;
  const double slope = xy / xx;
  const double seconds = mean_x + (limit - mean_y) / slope - points.back().first;
  if (seconds > kMost)
    return std::nullopt;
  return static_cast<uint64_t>(std::ceil(std::max(seconds - 1e-6, 0.0)));
}

std::optional<uint64_t> Estimate::after(double now_s, const std::vector<Finding> &findings) {
  std::optional<uint64_t> longest;
  bool possible = true;
  for (const Finding &f : findings) {
    const Criterion &c = *f.criterion;
    const bool grows = c.of == CriterionOf::pair && c.unit == CriterionUnit::share && c.at_least;
    if (grows && f.value) {
      auto &points = seen_[std::string(c.name) + " " + f.subject];
      points.emplace_back(now_s, *f.value);
      if (points.size() > kPoints)
        points.pop_front();
      const auto s = f.ok ? std::optional<uint64_t>(0) : seconds_until(points, f.limit);
      possible &= s.has_value();
      if (s && !f.ok)
        longest = std::max(longest.value_or(0), *s);
    } else {
      possible &= f.ok;
    }
  }
  return possible ? longest : std::nullopt;
}

} // namespace doppel::migrate
