// SPDX-License-Identifier: Apache-2.0
// The qdisc on DP_LINK_PEER that holds the data plane's packet for DP_CLOCK_MS: see
// bpf/tcp/clock.bpf.h.
#pragma once

#include <cstdint>
#include <string>

#include "userspace/kernel/rtnl.h"

namespace doppel {

// Makes the qdisc, unless it is there. `ifindex`: of DP_LINK_PEER. Fails where the kernel has no
// qdisc htb.
Status ensure_clock(Rtnl &nl, uint32_t ifindex);

// What that means for the mirror, as a sentence.
std::string no_clock(const Error &why);

// Whether it is there, as ensure_clock() made it. It goes with its device.
Result<bool> has_clock(Rtnl &nl, uint32_t ifindex);

} // namespace doppel
