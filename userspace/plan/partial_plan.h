// SPDX-License-Identifier: Apache-2.0
// A plan for as much of a configuration as the host can carry at present: a device may be gone for
// a while, or a target without a route. Pure.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "userspace/plan/change.h"
#include "userspace/plan/plan.h"

namespace doppel {

struct PartialPlan {
  Plan plan;
  std::set<std::string> deferred; // names of the mappings that are not in the plan
  Errors why;
  bool forbidden = false; // of a mapping that is neither: IPsec forbids it, so that it must end
};

// The mappings of an attached mirror, which know where their copies go.
using KnownMappings = std::vector<MirrorState::Mapping>;

// All of the configuration, or an error. A target that copies cannot reach at present is one, but
// for mappings of `known` that keep their rows: what copies it gets go as before, and none where
// the host has no route, as of the host's own connections (the kernel would take it for a
// neighbour: ip_route_output_key_hash_rcu(), net/ipv4/route.c). Why is in PartialPlan::why.
Result<PartialPlan> make_whole_plan(const Config &config, const HostView &host,
                                    const KnownMappings &known);

// The same, and mappings that the host cannot carry are deferred, as are those that do not go
// together, the later ones. Fails only for what concerns all mappings.
Result<PartialPlan> make_partial_plan(const Config &config, const HostView &host,
                                      const KnownMappings &known = {});

} // namespace doppel
