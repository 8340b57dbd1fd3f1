// SPDX-License-Identifier: Apache-2.0
// Others' programs on the mirror's own pair of devices, where they have nothing to look for.
#pragma once

#include "userspace/kernel/rtnl.h"
#include "userspace/mirror/meta.h"
#include "userspace/view/snapshot.h"

namespace doppel {

// What a program says of a packet only running it would tell: one that lets all pass is no problem.
// Where a target takes nothing, it is the first that is to be looked at.
void tell_what_is_in_the_way(Rtnl &nl, const Meta &meta, StatusView &view);

} // namespace doppel
