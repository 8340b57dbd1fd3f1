// SPDX-License-Identifier: Apache-2.0
// What connection tracking of this network namespace knows of one connection.
#pragma once

#include <cstdint>
#include <vector>

#include "doppel/abi.h"
#include "userspace/util/address.h"
#include "userspace/util/error.h"
#include "userspace/util/text.h"

namespace doppel {

// Whether packets of TCP from `client` to `server`, as they arrive at a device, are given another
// destination by this host (DNAT or REDIRECT, of whatever made the rule), so that a socket for them
// is somewhere else. Addresses and ports in network order, IPv4 in its mapped form. False where
// nothing tracks connections, and for a connection that is not tracked in zone 0. Needs
// CAP_NET_ADMIN.
Result<bool> has_other_destination(const dp_addr &client, __be16 client_port, const dp_addr &server,
                                   __be16 server_port);

// An established connection of TCP as it arrives, and where it goes on to: the same
// place, or, by DNAT, another.
struct TrackedConnection {
  dp_addr client{}, server{}, passed_to{};                     // network order
  __be16 client_port = 0, server_port = 0, passed_to_port = 0; // network order
  uint32_t silent_s = 0; // since its last packet of whatever kind
};

// What is tracked in this network namespace and has either port within the ranges. Empty where
// nothing tracks connections, and where so many are tracked that to read them all would take long.
// Needs CAP_NET_ADMIN.
Result<std::vector<TrackedConnection>> list_tracked(const std::vector<PortRange> &ports);

// The one connection from this host with these ends: where it goes on to. Not set: it is not
// tracked.
Result<Address> passed_to(const dp_addr &client, __be16 client_port, const dp_addr &server,
                          __be16 server_port);

} // namespace doppel
