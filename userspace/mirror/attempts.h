// SPDX-License-Identifier: Apache-2.0
// Whether a target that refused, or was given up, takes connections again: else only the next
// client would tell.
#pragma once

#include "userspace/mirror/maps.h"
#include "userspace/view/vitals.h"

namespace doppel {

// Fills v.tried: connects to the targets of which that is in doubt, as any program of this host
// would, and waits a fifth of a second at most. `before`: the look before; what it tried is not
// tried again within two seconds. Null: there is none.
Status try_targets(const Attached &attached, const Vitals *before, Vitals &v);

} // namespace doppel
