// SPDX-License-Identifier: Apache-2.0
// The ledger.
#pragma once

#include "userspace/mirror/maps.h"
#include "userspace/view/snapshot.h"

namespace doppel {

Result<Counters> read_counters();

// Of a data plane that was found already.
Result<Counters> read_counters_of(const Attached &attached);

} // namespace doppel
