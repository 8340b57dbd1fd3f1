// SPDX-License-Identifier: Apache-2.0
// The clock of the data plane, and that of what this thread costs.
#pragma once

#include <time.h>

#include <cstdint>

namespace doppel {

// Nanoseconds.
inline constexpr uint64_t kMsNs = 1'000'000, kSecondNs = 1'000 * kMsNs, kMinuteNs = 60 * kSecondNs;

// Nanoseconds of CLOCK_MONOTONIC, as bpf_ktime_get_ns() has them.
inline uint64_t monotonic_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * kSecondNs + static_cast<uint64_t>(t.tv_nsec);
}

// Nanoseconds of CPU that this thread has used, in user space and in the kernel.
inline uint64_t thread_cpu_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<uint64_t>(t.tv_sec) * kSecondNs + static_cast<uint64_t>(t.tv_nsec);
}

} // namespace doppel
