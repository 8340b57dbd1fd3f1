// SPDX-License-Identifier: Apache-2.0
// Ends every shadow in an orderly way, by pokes through BPF_PROG_RUN.
#pragma once

#include <cstdint>

#include "userspace/pins.h"

namespace doppel {

// New flows are no longer opened, and bytes of open ones are excluded as `paused`.
Status pause_mirror(const Pins &pins);

struct Drained {
  uint32_t closed = 0; // had delivered everything and closed within the time
  uint32_t reset = 0;  // were given up
};

// FIN for every live shadow; waits at most wait_ms until all are closed; resets the rest.
// Must run in the network namespace of DP_LINK, with return still attached.
Result<Drained> drain_shadows(const Pins &pins, uint32_t wait_ms);

} // namespace doppel
