// SPDX-License-Identifier: Apache-2.0
// How far a target is behind. Pure.
#pragma once

#include <cstdint>

#include "doppel/abi.h"

namespace doppel::migrate {

// ms: how long what waits takes at the pace of the last `over_ns` (Little's law); where nothing was
// acknowledged in that time, since when. 0: nothing waits. `now_ns` as moments of the ledger are.
double lag_ms(const dp_ledger &before, const dp_ledger &now, uint64_t over_ns, uint64_t now_ns);

} // namespace doppel::migrate
