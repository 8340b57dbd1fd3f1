// SPDX-License-Identifier: Apache-2.0
// What every look at a mirror and every change to it begins with.
#pragma once

#include "userspace/kernel/pins.h"
#include "userspace/kernel/rtnl.h"

namespace doppel {

struct Host {
  Rtnl nl;
  Pins pins;
  Fd lock; // empty without open_locked()

  static Result<Host> open();
  // With the lock on the pins, which is given back when the Host ends. Waits for it by `pause`.
  static Result<Host> open_locked(const Pause &pause = {});
};

} // namespace doppel
