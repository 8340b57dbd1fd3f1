// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/partial_plan.h"

#include "userspace/plan/plan_checks.h"

namespace doppel {
Result<PartialPlan> make_partial_plan(const Config &config, const HostView &host) {
  PartialPlan f;
  Config rest = config;
  rest.mappings.clear();
  for (const MappingConfig &m : config.mappings) {
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
  return f;
}

} // namespace doppel
