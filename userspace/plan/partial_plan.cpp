// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/partial_plan.h"

#include <algorithm>

#include "userspace/plan/named_devices.h"
#include "userspace/plan/plan_checks.h"

namespace doppel {
namespace {
// Of mappings that are left out as well: room for an address is made at attach, and not later.
void take_all_pools(const Config &config, Plan &plan) {
  for (const Address &a : shadow_addresses(config))
    if (std::find(plan.pools.begin(), plan.pools.end(), a) == plan.pools.end())
      plan.pools.push_back(a);
  plan.config.slots = static_cast<uint32_t>(plan.config.ports * plan.pools.size());
}

} // namespace

Result<PartialPlan> make_partial_plan(const Config &config, const HostView &host) {
  PartialPlan f;
  const Config present = present_devices(config, host, f.why);
  Config rest = config;
  rest.mappings.clear();
  for (const MappingConfig &m : present.mappings) {
    Config one = config;
    one.mappings = {m};
    const auto plan = make_plan(one, host);
    if (plan) {
      rest.mappings.push_back(m);
      continue;
    }
    // What is mirrored in clear text goes on only as long as nobody forbids it.
    if (ipsec_forbids(m, config.limits, host))
      f.forbidden = true;
    else
      f.deferred.insert(m.name);
    f.why.insert(f.why.end(), plan.errors().begin(), plan.errors().end());
  }
  f.plan = TRY(make_plan(rest, host));
  take_all_pools(config, f.plan);
  f.plan.store_rows = store_rows(config, f.plan.chunks);
  return f;
}

} // namespace doppel
