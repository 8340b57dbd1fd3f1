// SPDX-License-Identifier: Apache-2.0
// What a plan wants to know of this host.
#pragma once

#include <cstdint>

#include "userspace/kernel/rtnl.h"
#include "userspace/plan/plan.h"
#include "userspace/util/error.h"

namespace doppel {

enum class ViewOf {
  devices,    // and their addresses, routes to the targets, IPsec policies, port ranges, TCX
  everything, // the same, who listens and is connected to the mappings' ports, netfilter's rules
};
Result<HostView> view_host(const Config &config, ViewOf what = ViewOf::everything);

// The devices of this network namespace with their addresses.
Result<std::vector<DeviceView>> view_devices(Rtnl &nl);

// This host's sockets that wait for connections at these ports.
Result<std::vector<Listener>> list_listeners(const std::vector<PortRange> &ports);

// net.ipv4.ip_local_port_range and ip_local_reserved_ports; false: the range cannot be read.
bool view_local_ports(HostView &view);

} // namespace doppel
