// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/partial_plan.h"

#include <algorithm>
#include <map>

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

// `route`: that copies cannot take; null: there is none.
Route way_of_before(const dp_target &known, const HostView &host, const Route *route) {
  Route r;
  r.held = true;
  r.oif = route ? known.oif : DP_NO_DEVICE;
  if (const DeviceView *d = route ? find_device(host, route->device) : nullptr;
      d && d->ethernet && known.oif == DP_NO_DEVICE)
    r.oif = route->oif;
  if (const DeviceView *d = device_of(host, r.oif))
    r.device = d->name;
  r.source = Address{known.shadow_addr};
  r.plain = Address{known.nexthop}.is_set();
  r.mtu = known.mtu;
  return r;
}

// Null: the attached mirror has no mapping of that name and of these targets.
const MirrorState::Mapping *attached_one(const MappingConfig &m, const KnownMappings &known) {
  const NamedMapping wanted = name_of(m);
  const auto one = std::find_if(known.begin(), known.end(), [&](const MirrorState::Mapping &k) {
    return k.name.name == wanted.name && k.name.targets == wanted.targets;
  });
  return one == known.end() ? nullptr : &*one;
}

using Routes = std::map<std::string, Route>; // as HostView's

// Of targets that copies cannot reach at present, the ways of before.
struct Ways {
  Routes routes;
  Errors why;
};

Ways ways_of_before(const MappingConfig &m, const HostView &host, const dp_mapping &row) {
  Ways ways;
  for (unsigned i = 0; i < m.targets.size() && i < row.n_targets; i++) {
    const TargetConfig &t = m.targets[i];
    const auto found = host.routes.find(t.address.text());
    const Route *route = found == host.routes.end() ? nullptr : &found->second;
    if ((route && route->local) || is_own_address(host, t.address))
      continue;
    const size_t before = ways.why.size();
    check_route(host, t, ways.why);
    if (ways.why.size() > before)
      ways.routes[t.address.text()] = way_of_before(row.target[i], host, route);
  }
  return ways;
}

HostView with_ways(HostView host, const Routes &ways) {
  for (const auto &[target, way] : ways)
    host.routes[target] = way;
  return host;
}

Config alone(const MappingConfig &m, const Config &config) {
  Config one = config;
  one.mappings = {m};
  return one;
}

// None where the mapping would begin anew with them: it waits for what it lacks, or is refused.
Ways known_ways(const MappingConfig &m, const Config &config, const HostView &host,
                const KnownMappings &known) {
  const MirrorState::Mapping *attached = attached_one(m, known);
  if (!attached)
    return {};
  Ways ways = ways_of_before(m, host, attached->row);
  if (ways.routes.empty())
    return {};
  const auto plan = make_plan(alone(m, config), with_ways(host, ways.routes));
  if (!plan || !may_keep_row(*attached, plan->names[0], plan->mappings[0], plan->preambles[0]))
    return {};
  return ways;
}

// For what is judged of a mapping whatever else it lacks.
HostView as_it_was(const MappingConfig &m, const HostView &host, const KnownMappings &known) {
  const MirrorState::Mapping *attached = attached_one(m, known);
  return attached ? with_ways(host, ways_of_before(m, host, attached->row).routes) : host;
}

// Why the host cannot carry this one by itself. Empty: it can.
Errors reasons_against(const MappingConfig &m, const Config &config, const HostView &host) {
  const Config one = alone(m, config);
  const auto plan = make_plan(one, host);
  Errors errors;
  if (plan)
    check_kept_clients(one, shadow_addresses(config), host, errors);
  else
    errors = plan.errors();
  return errors;
}

} // namespace

Result<PartialPlan> make_whole_plan(const Config &config, const HostView &host,
                                    const KnownMappings &known) {
  PartialPlan f;
  Routes held;
  Errors errors; // of mappings that would begin, though others hold the same targets
  for (const MappingConfig &m : config.mappings) {
    Ways ways = known_ways(m, config, host, known);
    if (ways.routes.empty())
      check_targets(alone(m, config), host, errors);
    held.merge(ways.routes);
    f.why.insert(f.why.end(), ways.why.begin(), ways.why.end());
  }
  if (held.empty())
    f.plan = TRY(make_plan(config, host));
  else if (errors.empty())
    f.plan = TRY(make_plan(config, with_ways(host, held)));
  else
    return errors;
  return f;
}

Result<PartialPlan> make_partial_plan(const Config &config, const HostView &host,
                                      const KnownMappings &known) {
  PartialPlan f;
  const Config present = present_devices(config, host, f.why);
  Config rest = config;
  rest.mappings.clear();
  Routes held;
  for (const MappingConfig &m : present.mappings) {
    Ways ways = known_ways(m, config, host, known);
    f.why.insert(f.why.end(), ways.why.begin(), ways.why.end());
    const HostView with = ways.routes.empty() ? HostView{} : with_ways(host, ways.routes);
    const HostView &own = ways.routes.empty() ? host : with;
    const Errors errors = reasons_against(m, config, own);
    if (errors.empty()) {
      rest.mappings.push_back(m);
      held.merge(ways.routes);
      continue;
    }
    // What is mirrored in clear text goes on only as long as nobody forbids it.
    if (ipsec_forbids(m, config.limits, as_it_was(m, host, known)))
      f.forbidden = true;
    else
      f.deferred.insert(m.name);
    f.why.insert(f.why.end(), errors.begin(), errors.end());
  }
  f.plan = TRY(agreeing_plan(rest, with_ways(host, held), f));
  take_all_pools(config, f.plan);
  f.plan.store_rows = store_rows(config, f.plan.chunks);
  f.plan.limits.max_mappings =
      std::max<uint64_t>(f.plan.limits.max_mappings, config.mappings.size());
  return f;
}

} // namespace doppel
