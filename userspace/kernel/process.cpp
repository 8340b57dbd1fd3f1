// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/process.h"

#include <unistd.h>

#include <ctime>
#include <fstream>
#include <sstream>
#include <string>

namespace doppel {
namespace {
constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr int kBetween = 19; // fields from that of the state to that of the start, proc_pid_stat(5)

} // namespace

// The name, in brackets, may hold whatever it likes: what comes after it is told by the last one.
uint64_t process_age_ns(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t name = line.rfind(')');
  const long ticks = ::sysconf(_SC_CLK_TCK);
  timespec now{};
  if (name == std::string::npos || ticks <= 0 || ::clock_gettime(CLOCK_BOOTTIME, &now))
    return UINT64_MAX;
  std::istringstream fields(line.substr(name + 1));
  std::string skipped;
  for (int i = 0; i < kBetween; i++)
    fields >> skipped;
  uint64_t start = 0;
  if (!(fields >> start))
    return UINT64_MAX;
  const auto hertz = static_cast<uint64_t>(ticks);
  const uint64_t start_ns = start / hertz * kSecondNs + start % hertz * kSecondNs / hertz;
  const uint64_t now_ns =
      static_cast<uint64_t>(now.tv_sec) * kSecondNs + static_cast<uint64_t>(now.tv_nsec);
  return now_ns > start_ns ? now_ns - start_ns : 0;
}

} // namespace doppel
