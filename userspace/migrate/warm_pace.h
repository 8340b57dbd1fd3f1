// SPDX-License-Identifier: Apache-2.0
// How fast the source is asked where nothing is copied: Pressure, and what it has to be told.
#pragma once

#include <cstdint>

#include "userspace/migrate/pressure.h"
#include "userspace/migrate/warm_context.h"

namespace doppel::migrate {

class SourcePace {
public:
  explicit SourcePace(const WarmContext &c) : c_(c), pressure_(c.options.rate) {}
  // The source's answer time while it is left in peace.
  Status begin();
  // The same now and then. The target hears of it as well: it may close what is quiet
  // (-o idle_timeout).
  Status measure(uint64_t now_ns);
  // Until more may be asked for; false: it was interrupted.
  Result<bool> wait();
  Pressure &pressure() { return pressure_; }
  const Pressure &pressure() const { return pressure_; }

private:
  const WarmContext &c_;
  Pressure pressure_;
  uint64_t next_measure_ns_ = 0, next_ping_ns_ = 0;
};

} // namespace doppel::migrate
