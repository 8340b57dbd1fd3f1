// SPDX-License-Identifier: Apache-2.0
// Devices, routes and neighbours of this network namespace.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "userspace/kernel/rtnl.h"
#include "userspace/plan/plan.h"

namespace doppel {

struct Device {
  uint32_t ifindex = 0;
  std::string name, kind, alias; // kind: "veth", "bridge", ...; empty: hardware
  uint16_t arphrd = 0;           // ARPHRD_*
  uint32_t flags = 0;            // IFF_*
  uint32_t mtu = 0;              // bytes
  uint32_t peer = 0;             // IFLA_LINK: for a veth, its other end
};

Result<std::vector<Device>> list_devices(Rtnl &nl);
// Empty: there is no such device.
Result<std::optional<Device>> find_device(Rtnl &nl, const std::string &name);

// What RTM_GETROUTE answers for a packet from this host. Empty: unreachable.
Result<std::optional<Route>> route_to(Rtnl &nl, const Address &target);

struct NextHop {
  uint32_t ifindex = 0;
  std::string device;
  Address address; // gateway, or the target itself when on link
};

// Makes the kernel resolve each address, waits at most timeout_ms for all of them together, and
// returns those that are still unresolved. bpf_redirect_neigh() would resolve them too, but drops
// what finds no entry; this saves the first SYN of each target.
std::vector<NextHop> resolve_neighbours(Rtnl &nl, const std::vector<NextHop> &hops,
                                        unsigned timeout_ms);

// net.ipv4.ip_local_port_range; false: cannot be read.
bool local_port_range(uint16_t *first, uint16_t *last);

// Identity of this network namespace: cookie (0: kernel older than 5.14), and inode.
struct NetnsId {
  uint64_t cookie = 0, inode = 0;
};
NetnsId current_netns();

} // namespace doppel
