// SPDX-License-Identifier: Apache-2.0
// The names of devices in a configuration.
#include <fnmatch.h>

#include <algorithm>
#include <cctype>

#include "userspace/config/config.h"

namespace doppel {
namespace {
constexpr size_t kLongestName = 15;    // IFNAMSIZ - 1
constexpr size_t kLongestPattern = 64; // "[a-z]" stands for one character

bool is_plain(unsigned char c) { return c != '/' && c != ':' && !std::isspace(c) && c >= 0x20; }

} // namespace

bool is_device_pattern(const std::string &name) {
  return name.find_first_of("*?[") != std::string::npos;
}

bool fits_device_pattern(const std::string &pattern, const std::string &device) {
  if (!is_device_pattern(pattern))
    return pattern == device;
  return device != "lo" && ::fnmatch(pattern.c_str(), device.c_str(), 0) == 0;
}

// As dev_valid_name() of the kernel has it.
std::string wrong_device(const std::string &s) {
  const size_t longest = is_device_pattern(s) ? kLongestPattern : kLongestName;
  if (s.empty() || s.size() > longest || s == "." || s == ".." ||
      !std::all_of(s.begin(), s.end(), is_plain))
    return "cannot be the name of a device";
  return {};
}

bool share_device(const std::vector<std::string> &a, const std::vector<std::string> &b) {
  return std::any_of(a.begin(), a.end(), [&](const std::string &x) {
    return std::any_of(b.begin(), b.end(), [&](const std::string &y) {
      return x == y || (!is_device_pattern(y) && fits_device_pattern(x, y)) ||
             (!is_device_pattern(x) && fits_device_pattern(y, x));
    });
  });
}

} // namespace doppel
