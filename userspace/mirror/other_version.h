// SPDX-License-Identifier: Apache-2.0
// Drains the mirror of a doppel with another DP_ABI, which may be gone from this host.
#pragma once

#include <cstdint>

#include "userspace/kernel/pins.h"
#include "userspace/mirror/drain.h"
#include "userspace/util/pause.h"

namespace doppel {

// As set_paused() and drain_shadows(). Relies on what abi.h promises never to change, and on the
// kernel's description (BTF) of the map `shadows`. An error: these shadows cannot be closed in
// order.
Status pause_other_version(const Pins &pins);
Result<Drained> drain_other_version(const Pins &pins, uint32_t wait_ms, const Pause &pause);

} // namespace doppel
