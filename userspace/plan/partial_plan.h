// SPDX-License-Identifier: Apache-2.0
// A plan for as much of a configuration as the host can carry at present: a device may be gone for
// a while, or a target without a route. Pure.
#pragma once

#include <set>
#include <string>

#include "userspace/plan/plan.h"

namespace doppel {

struct PartialPlan {
  Plan plan;
  std::set<std::string> deferred; // names of the mappings that are not in the plan
  Errors why;
  bool forbidden = false; // of a mapping that is neither: IPsec forbids it, so that it must end
};

// Mappings that do not go together are deferred as well, the later ones. Fails only for what
// concerns all of them.
Result<PartialPlan> make_partial_plan(const Config &config, const HostView &host);

} // namespace doppel
