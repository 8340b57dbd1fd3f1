// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/partial_plan.h"

#include <algorithm>

#include "userspace/plan/named_devices.h"
#include "userspace/plan/plan_checks.h"
#include "userspace/plan/topology.h"

namespace doppel {
namespace {
// Of mappings that are left out as well: room for an address is made at attach, and not later.
void take_all_pools(const Config &config, Plan &plan) {
  for (const Address &a : shadow_addresses(config))
    if (std::find(plan.pools.begin(), plan.pools.end(), a) == plan.pools.end())
      plan.pools.push_back(a);
  // It may be the address of another mapping's route, whose slots are where its answers lead.
  for (dp_mapping &m : plan.mappings)
    for (unsigned t = 0; t < m.n_targets; t++)
      if (const auto own =
              std::find(plan.pools.begin() + 1, plan.pools.end(), Address{m.target[t].shadow_addr});
          own != plan.pools.end())
        m.target[t].pool[0] = static_cast<__u8>(own - plan.pools.begin());
  plan.config.slots = static_cast<uint32_t>(plan.config.ports * plan.pools.size());
}

// Mappings of which each has a plan, and all of them together have none, as when a device came
// whose name fits the patterns of two. In their order, those that do not go with the ones before
// are deferred.
Result<Plan> agreeing_plan(const Config &all, const HostView &host, PartialPlan &f) {
  auto plan = make_plan(all, host);
  if (plan)
    return plan;
  Config agreed = all;
  agreed.mappings.clear();
  const auto with = [&](size_t from, size_t n) {
    Config more = agreed;
    more.mappings.insert(more.mappings.end(), all.mappings.begin() + static_cast<ptrdiff_t>(from),
                         all.mappings.begin() + static_cast<ptrdiff_t>(from + n));
    return more;
  };
  // As many at once as may go together: there may be a thousand.
  for (size_t from = 0, run = 1; from < all.mappings.size();) {
    const size_t n = std::min(run, all.mappings.size() - from);
    if (const auto tried = make_plan(with(from, n), host)) {
      agreed = with(from, n);
      from += n;
      run = 2 * n;
    } else if (n > 1) {
      run = n / 2;
    } else {
      f.deferred.insert(all.mappings[from].name);
      f.why.insert(f.why.end(), tried.errors().begin(), tried.errors().end());
      from++;
    }
  }
  return make_plan(agreed, host);
}

Route way_of_before(const dp_target &known, const HostView &host, bool has_route) {
  Route r;
  r.held = true;
  r.oif = has_route ? known.oif : DP_NO_DEVICE;
  if (const DeviceView *d = device_of(host, r.oif))
    r.device = d->name;
  r.source = Address{known.shadow_addr};
  r.plain = Address{known.nexthop}.is_set();
  r.mtu = known.mtu;
  return r;
}

// The host, where targets that copies cannot reach at present are reached as before.
HostView with_known_ways(const Config &config, HostView host, const KnownWays &known, Errors &why) {
  std::map<std::string, Route> held;
  for (const MappingConfig &m : config.mappings)
    for (const TargetConfig &t : m.targets) {
      const std::string target = t.address.text();
      const auto way = known.find(target);
      const auto route = host.routes.find(target);
      const bool has_route = route != host.routes.end();
      if (way == known.end() || (has_route && route->second.local) ||
          is_own_address(host, t.address))
        continue;
      const size_t before = why.size();
      check_route(host, t, why);
      if (why.size() > before)
        held[target] = way_of_before(way->second, host, has_route);
    }
  for (auto &[target, route] : held)
    host.routes[target] = std::move(route);
  return host;
}

} // namespace

Result<PartialPlan> make_partial_plan(const Config &config, const HostView &now,
                                      const KnownWays &known) {
  PartialPlan f;
  const HostView host = with_known_ways(config, now, known, f.why);
  const Config present = present_devices(config, host, f.why);
  Config rest = config;
  rest.mappings.clear();
  for (const MappingConfig &m : present.mappings) {
    Config one = config;
    one.mappings = {m};
    Errors errors;
    if (const auto plan = make_plan(one, host))
      check_kept_clients(one, shadow_addresses(config), host, errors);
    else
      errors = plan.errors();
    if (errors.empty()) {
      rest.mappings.push_back(m);
      continue;
    }
    // What is mirrored in clear text goes on only as long as nobody forbids it.
    if (ipsec_forbids(m, config.limits, host))
      f.forbidden = true;
    else
      f.deferred.insert(m.name);
    f.why.insert(f.why.end(), errors.begin(), errors.end());
  }
  f.plan = TRY(agreeing_plan(rest, host, f));
  take_all_pools(config, f.plan);
  f.plan.store_rows = store_rows(config, f.plan.chunks);
  f.plan.limits.max_mappings =
      std::max<uint64_t>(f.plan.limits.max_mappings, config.mappings.size());
  return f;
}

} // namespace doppel
