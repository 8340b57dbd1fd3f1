// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/changed_routes.h"

#include <bpf/bpf.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "userspace/kernel/host_net.h"
#include "userspace/mirror/maps.h"

namespace doppel {
namespace {
std::string device_name(uint32_t ifindex) {
  char name[IF_NAMESIZE];
  return ::if_indextoname(ifindex, name) ? name : "number " + std::to_string(ifindex);
}

// By device and next hop: a gateway is looked up for each copy, and may change as it likes.
std::string way(uint32_t oif, bool on_link) {
  return "device " + device_name(oif) + (on_link ? ", on link" : ", through a gateway");
}

// Empty: it is as it was.
std::string change_of(const dp_target &row, const std::vector<Address> &sources,
                      const std::optional<Route> &route, const std::vector<DeviceAddress> &own) {
  if (!route)
    return row.oif == DP_NO_DEVICE ? "nothing is sent to it, as this host has no route there"
                                   : "this host has no route there any more, and copies go on";
  if (route->local && row.oif != DP_LOOPBACK)
    return "it is an address of this host by now, and copies go on to where it was";
  if (row.oif == DP_NO_DEVICE)
    return "nothing is sent to it, though this host has a route there again";
  const bool was_on_link = Address{row.nexthop}.is_set();
  const bool is_on_link = route->plain && !route->gateway.is_set() && !route->local;
  if (route->oif != row.oif || is_on_link != was_on_link)
    return "this host's route leads there by " + way(route->oif, is_on_link) +
           " now, and copies go by " + way(row.oif, was_on_link);
  const bool local = route->local && route->source == Address{row.shadow_addr};
  for (const Address &source : sources)
    if (!(local && source == route->source) && // 127.0.0.2 is on no list
        std::none_of(own.begin(), own.end(),
                     [&](const DeviceAddress &a) { return a.address == source; }))
      return "copies come from " + source.text() + ", which is no address of this host any more";
  return {};
}

// The addresses that copies to the target come from.
Result<std::vector<Address>> sources_of(const dp_target &row, const MapTable &pools) {
  std::vector<Address> sources{Address{row.shadow_addr}};
  for (uint32_t i = 1; i < row.n_pools && i < DP_MAX_SOURCES; i++) {
    const uint32_t number = row.pool[i];
    dp_pool pool{};
    if (bpf_map_lookup_elem(pools.fd.get(), &number, &pool))
      return sys_error("map pools", "cannot be read", errno);
    sources.push_back(Address{pool.address});
  }
  return sources;
}

} // namespace

Result<std::vector<Problem>> changed_routes(Rtnl &nl, const Pins &pins, const Meta &meta) {
  const auto rows = TRY(open_table(pins, "mappings", sizeof(dp_mapping), Access::read));
  const auto pools = TRY(open_table(pins, "pools", sizeof(dp_pool), Access::read));
  const auto own = TRY(list_addresses(nl));
  std::map<std::string, std::optional<Route>> routes;
  std::vector<Problem> problems;
  for (const NamedMapping &m : meta.mappings) {
    dp_mapping row{};
    if (bpf_map_lookup_elem(rows.fd.get(), &m.row, &row))
      return sys_error("map mappings", "cannot be read", errno);
    for (uint32_t t = 0; t < row.n_targets && t < m.targets.size(); t++) {
      const Address address{row.target[t].address};
      if (!routes.count(address.text()))
        routes[address.text()] = TRY(route_to(nl, address));
      const auto sources = TRY(sources_of(row.target[t], pools));
      const std::string change = change_of(row.target[t], sources, routes[address.text()], own);
      if (!change.empty()) // of an address, whatever mappings have it
        problems.push_back({ProblemKind::host,
                            "target " + address.text() + ": " + change,
                            "mend the host, or doppel reload where the mirror is to follow it",
                            0,
                            {}});
    }
  }
  return problems;
}

} // namespace doppel
