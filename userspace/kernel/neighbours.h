// SPDX-License-Identifier: Apache-2.0
// The link-layer addresses that copies need.
#pragma once

#include <string>
#include <vector>

#include "userspace/config/config.h"
#include "userspace/kernel/rtnl.h"

namespace doppel {

// Has the kernel resolve the next hop of each target, and waits at most a second. Returns a
// warning for each that does not answer.
std::vector<std::string> wake_neighbours(Rtnl &nl, const Config &config);

} // namespace doppel
