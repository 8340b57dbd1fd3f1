// SPDX-License-Identifier: Apache-2.0
// Devices, addresses and routes of this network namespace.
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
  uint32_t peer = 0;             // IFLA_LINK: for a veth, its other end; for a tunnel, below it
  bool elsewhere = false;        // IFLA_LINK is in another network namespace, and peer is 0
  uint32_t master = 0;           // IFLA_MASTER: the bridge, bond or VRF that it is part of
  bool carrier = true;
  std::string mac; // raw bytes
  Address tunnel;  // of a VXLAN or GRE device: its own end, if that was given
};

Result<std::vector<Device>> list_devices(Rtnl &nl);
// Empty: there is no such device.
Result<std::optional<Device>> find_device(Rtnl &nl, const std::string &name);
Result<std::optional<Device>> find_device(Rtnl &nl, uint32_t ifindex); // 0: there is none

// What there is to know of a device without the lock of all devices (rtnl), which others may hold
// for seconds. Empty: there is no such device.
struct DeviceState {
  std::string name;
  uint32_t flags = 0; // IFF_*
};
Result<std::optional<DeviceState>> device_state(uint32_t ifindex); // 0: there is none
Result<std::optional<DeviceState>> device_state(const std::string &name);

struct DeviceAddress {
  uint32_t ifindex = 0;
  Address address; // this host's own
};
// Those that this host answers for: an IPv6 address that is being tried, or that another host has
// as well, is not among them (RFC 4862, 5.4).
Result<std::vector<DeviceAddress>> list_addresses(Rtnl &nl);

// What RTM_GETROUTE answers for a packet from this host, and for IPv6 what its sockets would use.
// Empty: unreachable.
Result<std::optional<Route>> route_to(Rtnl &nl, const Address &target);

} // namespace doppel
