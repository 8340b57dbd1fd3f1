// SPDX-License-Identifier: Apache-2.0
// What a plan wants to know of this host.
#pragma once

#include <cstdint>

#include "userspace/plan/plan.h"
#include "userspace/util/error.h"

namespace doppel {

// Devices and their addresses, routes to the targets, port ranges, TCX.
Result<HostView> view_host(const Config &config);

// net.ipv4.ip_local_port_range; false: cannot be read.
bool local_port_range(uint16_t *first, uint16_t *last);

} // namespace doppel
