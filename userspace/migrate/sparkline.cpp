// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/sparkline.h"

#include <algorithm>

namespace doppel::migrate {
namespace {
constexpr const char *kBars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr const char *kAscii[] = {"_", ".", ":", "-", "=", "+", "*", "#"};
constexpr int kLevels = 8;

} // namespace

std::string sparkline(const std::vector<std::optional<double>> &values, size_t width,
                      bool unicode) {
  std::string text;
  for (size_t i = values.size() - std::min(width, values.size()); i < values.size(); i++) {
    if (!values[i]) {
      text += ' ';
      continue;
    }
    const int level = std::clamp(static_cast<int>(*values[i] * kLevels), 0, kLevels - 1);
    text += (unicode ? kBars : kAscii)[level];
  }
  return text;
}

} // namespace doppel::migrate
