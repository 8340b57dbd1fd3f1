// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/neighbours.h"

#include <net/if.h>

#include <algorithm>

#include "userspace/kernel/host_net.h"

namespace doppel {

namespace {

constexpr unsigned kPatienceMs = 1000;

} // namespace

std::vector<std::string> wake_neighbours(Rtnl &nl, const Config &config) {
  std::vector<NextHop> hops;
  for (const auto &m : config.mappings) {
    for (const auto &t : m.targets) {
      auto route = route_to(nl, t.address);
      if (!route || !*route || (*route)->local)
        continue;
      const Route &r = **route;
      NextHop hop{r.oif, {}, r.gateway.is_v4() ? r.gateway : t.address};
      if (std::any_of(hops.begin(), hops.end(), [&](const NextHop &h) {
            return h.ifindex == hop.ifindex && h.address == hop.address;
          }))
        continue;
      char name[IF_NAMESIZE];
      hop.device = ::if_indextoname(r.oif, name) ? name : "?";
      hops.push_back(hop);
    }
  }
  std::vector<std::string> warnings;
  for (const NextHop &hop : resolve_neighbours(nl, hops, kPatienceMs))
    warnings.push_back("neighbour " + hop.address.text() + " on " + hop.device +
                       " does not answer; copies that need it are tried again until it does");
  return warnings;
}

} // namespace doppel
