// SPDX-License-Identifier: Apache-2.0
// A plan for as much of a configuration as the host can carry at present: a device may be gone for
// a while, or a target without a route. Pure.
#pragma once

#include <map>
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

// Of each target of an attached mirror, by the text of its address, where copies go.
using KnownWays = std::map<std::string, dp_target>;

// Mappings that do not go together are deferred as well, the later ones. A target that copies
// cannot reach at present defers its mapping only if it is not among `known`: what copies it gets
// go as before, and none where the host has no route, as of the host's own connections (the kernel
// would take it for a neighbour: ip_route_output_key_hash_rcu(), net/ipv4/route.c). Fails only for
// what concerns all mappings.
Result<PartialPlan> make_partial_plan(const Config &config, const HostView &host,
                                      const KnownWays &known = {});

} // namespace doppel
