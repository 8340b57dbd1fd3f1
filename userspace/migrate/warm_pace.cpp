// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/warm_pace.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
constexpr uint64_t kMeasureNs = 50 * kMsNs;
constexpr uint64_t kPingNs = 500 * kMsNs; // of the target
constexpr int kQuiet = 20;                // measurements before it begins

Status ping(memcached::Connection &c) {
  return c.converse("mn\r\n", [](const memcached::Answer &) { return false; });
}

} // namespace

Status SourcePace::begin() {
  for (int i = 0; i < kQuiet; i++) {
    TRY(ping(c_.source));
    pressure_.quiet(c_.source.last_answer_us());
  }
  return Unit{};
}

Status SourcePace::measure(uint64_t now_ns) {
  if (now_ns >= next_ping_ns_) {
    next_ping_ns_ = now_ns + kPingNs;
    TRY(ping(c_.target));
  }
  if (now_ns < next_measure_ns_)
    return Unit{};
  next_measure_ns_ = now_ns + kMeasureNs;
  TRY(ping(c_.source));
  pressure_.measured(c_.source.last_answer_us());
  return Unit{};
}

Result<bool> SourcePace::wait() {
  for (;;) {
    const uint64_t now = monotonic_ns();
    TRY(measure(now));
    if (c_.stop)
      return false;
    if (now >= pressure_.next_ns())
      return true;
    std::this_thread::sleep_for(
        std::chrono::nanoseconds(std::min(20 * kMsNs, pressure_.next_ns() - now)));
  }
}

} // namespace doppel::migrate
