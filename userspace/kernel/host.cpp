// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/host.h"

namespace doppel {
Result<Host> Host::open() {
  auto nl = TRY(Rtnl::open());
  auto pins = TRY(Pins::locate());
  return Host{std::move(nl), std::move(pins), {}};
}

Result<Host> Host::open_locked(const Pause &pause) {
  auto host = TRY(open());
  host.lock = TRY(host.pins.lock(pause));
  return host;
}

} // namespace doppel
