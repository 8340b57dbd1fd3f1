// SPDX-License-Identifier: Apache-2.0
// What a mirror is judged by, read from the data plane and the host.
#pragma once

#include "userspace/mirror/attempts.h"
#include "userspace/mirror/maps.h"
#include "userspace/mirror/owing.h"
#include "userspace/view/vitals.h"

namespace doppel {

// One look. Costs nothing that depends on the sizes of the tables, but for what `owing` reads.
// `attempts`, `owing`: see there; null: nobody is asked, and no shadow looked at.
Result<Vitals> read_vitals(const Attached &attached, Attempts *attempts = nullptr,
                           Owing *owing = nullptr);

// One look, or where that gives cause for concern as many as the judgement wants, and as a target
// takes for an answer: two seconds. `patience_ns`: longer than that an answer may be owed.
Result<Looks> look_closely(const Attached &attached, uint64_t patience_ns);

} // namespace doppel
