// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/via.h"

#include <algorithm>

#include "userspace/kernel/host_net.h"

namespace doppel {
namespace {
// A route costs a question to the kernel. Beyond so many addresses the answer is "unknown".
constexpr size_t kMaxRoutes = 256;

bool has(const DeviceView &d, const Address &a) {
  const auto &all = needs_scope(a) ? d.link_local : d.addresses;
  return std::find(all.begin(), all.end(), a) != all.end();
}

} // namespace

Via::Via(const std::vector<DeviceView> &devices, Rtnl &nl) : devices_(devices), nl_(nl) {
  for (const DeviceView &d : devices_)
    if (d.name == "lo")
      loopback_ = d.ifindex;
}

bool Via::is_own(const Address &address) const {
  return is_loopback(address) || std::any_of(devices_.begin(), devices_.end(),
                                             [&](const DeviceView &d) { return has(d, address); });
}

uint32_t Via::to(const Address &server, uint32_t bound) {
  if (is_own(server))
    return loopback_;
  if (needs_scope(server))
    return bound;
  const auto key = server.text();
  if (const auto known = routes_.find(key); known != routes_.end())
    return known->second;
  if (routes_.size() >= kMaxRoutes)
    return 0;
  const auto route = route_to(nl_, server);
  return routes_[key] = route && *route ? (*route)->oif : 0;
}

uint32_t Via::of_server(const Address &own, const Address &client, uint32_t bound) {
  if (is_own(client))
    return loopback_;
  if (needs_scope(own)) // devices that stand on one another may have the same
    return bound;
  for (const DeviceView &d : devices_)
    if (d.ifindex != loopback_ && has(d, own))
      return d.ifindex;
  return to(client, bound);
}

} // namespace doppel
