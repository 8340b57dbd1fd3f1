// SPDX-License-Identifier: Apache-2.0
// What connection tracking of this network namespace knows of one connection.
#pragma once

#include <cstdint>

#include "doppel/abi.h"
#include "userspace/util/error.h"

namespace doppel {

// Whether packets of TCP from `client` to `server`, as they arrive at a device, are given another
// destination by this host (DNAT or REDIRECT, of whatever made the rule), so that a socket for them
// is somewhere else. Addresses and ports in network order; IPv4 in its mapped form, else false.
// False where nothing tracks connections, and for a connection that is not tracked in zone 0.
// Needs CAP_NET_ADMIN.
Result<bool> has_other_destination(const dp_addr &client, __be16 client_port, const dp_addr &server,
                                   __be16 server_port);

} // namespace doppel
