// SPDX-License-Identifier: Apache-2.0
// The parts of warm beside the copying.
#pragma once

#include <string>
#include <vector>

#include "userspace/migrate/warm_context.h"

namespace doppel::migrate {

// Plays KeyRemoval (warm_policy.h) for all keys of the target. Returns those that came back to the
// source meanwhile: they have to be repaired.
Result<std::vector<std::string>> delete_extra_keys(const WarmContext &c);

// What warm would do. Writes nothing, and looks where it can without leaving a trace.
Status dry_run(const WarmContext &c);

} // namespace doppel::migrate
