// SPDX-License-Identifier: Apache-2.0
// The link-layer addresses that copies need.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/config/config.h"
#include "userspace/kernel/rtnl.h"

namespace doppel {

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

// Has the kernel resolve the next hop of each target, and waits at most `timeout_ms` for all of
// them together. Returns a warning for each that does not answer.
std::vector<std::string> resolve_neighbours(Rtnl &nl, const Config &config,
                                            unsigned timeout_ms = 1000);

} // namespace doppel
