// SPDX-License-Identifier: Apache-2.0
// Ends shadows in an orderly way, by commands through BPF_PROG_RUN.
#pragma once

#include <cstdint>
#include <functional>

#include "doppel/abi.h"
#include "userspace/kernel/pins.h"
#include "userspace/util/pause.h"

namespace doppel {

// Paused: new flows are no longer opened, and bytes of open ones are excluded as `paused`.
Status set_paused(const Pins &pins, bool paused);
// Who sees it with the lock on the pins sees what an interrupted detach has left.
Result<bool> is_paused(const Pins &pins);

// Every open shadow that is `wanted` gets the command.
Status command_shadows(const Pins &pins, dp_command op,
                       const std::function<bool(const dp_shadow &)> &wanted);

struct Drained {
  uint32_t closed = 0; // had delivered everything and closed within the time
  uint32_t reset = 0;  // were given up
  uint32_t owed = 0;   // of these, on which the target had work to do yet
};

// FIN for every live shadow that `wanted` picks (empty: all); waits at most wait_ms until all of
// them are closed, and resends meanwhile what is due on them; resets the rest. Closed is what the
// target has closed, too: an answer that it owes comes before its FIN.
// Must run in the network namespace of DP_LINK, with return still attached.
Result<Drained> drain_shadows(const Pins &pins, uint32_t wait_ms, const Pause &pause = {},
                              const std::function<bool(const dp_shadow &)> &wanted = {});

} // namespace doppel
