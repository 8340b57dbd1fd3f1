// SPDX-License-Identifier: Apache-2.0
// Ends a mirror.
#pragma once

#include <cstdint>

#include "userspace/util/error.h"
#include "userspace/util/pause.h"
#include "userspace/view/snapshot.h"

namespace doppel {

// Removes everything of ours, also what only half exists; needs no state file. Drains first: FIN
// after the last byte of each shadow, then waits, at most drain_ms. Holds the lock on the pins.
//
// Refuses where programs of ours run whose pins are in another BPF file system: what cannot be seen
// cannot be drained, and its keeper would attach it again. `force`: ends them all the same, and
// the mirror of a doppel with another DP_ABI, whose ledger is not known then.
Result<DetachReport> detach(uint32_t drain_ms, const Pause &pause = {}, bool force = false);

} // namespace doppel
