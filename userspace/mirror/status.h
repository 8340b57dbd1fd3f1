// SPDX-License-Identifier: Apache-2.0
// What is attached where, what is missing, and how all of it fares.
#pragma once

#include <sys/types.h>

#include <functional>

#include "userspace/kernel/pins.h"
#include "userspace/util/error.h"
#include "userspace/view/snapshot.h"

namespace doppel {

// Process id of the keeper: as find_keeper().
using FindKeeper = std::function<pid_t(const Pins &)>;

// Takes two seconds where the first look gives cause for concern and no keeper looks all along, and
// up to five where somebody is attaching or detaching. Without `find_keeper` there is no keeper.
Result<StatusView> read_status(const FindKeeper &find_keeper = {});

} // namespace doppel
