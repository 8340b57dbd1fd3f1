// SPDX-License-Identifier: Apache-2.0
// What a mirror is judged by, read from the data plane and the host.
#pragma once

#include "userspace/kernel/rtnl.h"
#include "userspace/mirror/maps.h"
#include "userspace/view/vitals.h"

namespace doppel {

// One look. Costs nothing that depends on the sizes of the tables. `before`: the one before, or
// null: see try_targets().
Result<Vitals> read_vitals(const Attached &attached, const Vitals *before = nullptr);

// One look, or where that gives cause for concern as many as the judgement wants: two seconds.
Result<Looks> look_closely(const Attached &attached);

} // namespace doppel
