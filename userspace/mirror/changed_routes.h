// SPDX-License-Identifier: Apache-2.0
// Where this host's routes lead to targets by now, beside where the data plane sends.
#pragma once

#include <vector>

#include "userspace/kernel/rtnl.h"
#include "userspace/mirror/meta.h"
#include "userspace/view/problem.h"

namespace doppel {

// What attach, or the last reload, found is what copies follow: a route that forbids a target
// since, or leads elsewhere, is for a keeper to see, and where there is none for `status` to tell.
Result<std::vector<Problem>> changed_routes(Rtnl &nl, const Pins &pins, const Meta &meta);

} // namespace doppel
