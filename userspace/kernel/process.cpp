// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/process.h"

#include <unistd.h>

#include <ctime>
#include <fstream>
#include <sstream>
#include <string>

#include "userspace/util/clock.h"

namespace doppel {
namespace {
constexpr int kBetween = 19; // fields from that of the state to that of the start, proc_pid_stat(5)

// The fields from that of the state on; empty: there is no such process. The name before them, in
// brackets, may hold whatever it likes: its last bracket tells where it ends.
std::string fields_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t name = line.rfind(')');
  return name == std::string::npos ? "" : line.substr(name + 1);
}

} // namespace

bool process_is_stopped(pid_t pid) {
  char state = 0;
  std::istringstream(fields_of(pid)) >> state;
  return state == 'T' || state == 't';
}

uint64_t process_age_ns(pid_t pid) {
  std::istringstream fields(fields_of(pid));
  const long ticks = ::sysconf(_SC_CLK_TCK);
  timespec now{};
  if (ticks <= 0 || ::clock_gettime(CLOCK_BOOTTIME, &now))
    return UINT64_MAX;
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
