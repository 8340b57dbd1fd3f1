// SPDX-License-Identifier: Apache-2.0
// The veth pair DP_LINK / DP_LINK_PEER on which copies are rewritten.
#pragma once

#include <cstdint>
#include <set>

#include "userspace/kernel/host_net.h"
#include "userspace/kernel/rtnl.h"

namespace doppel {

// Largest MTU of a veth: no clone of a GRO super-packet may exceed it (ETH_MAX_MTU).
inline constexpr uint32_t kLinkMtu = 65535;

// True if `d` is of a pair that create_link_pair() made: both ends carry our alias; or they have
// our names, and one carries it, or both are as they were made (interrupted before it was set).
// Nothing less: whoever is told so deletes it.
Result<bool> is_our_link(Rtnl &nl, const Device &d);

// Creates the pair: no addresses, IPv6 off, no ARP, up. Returns the ifindex of DP_LINK.
// Fails if a device of either name exists; leaves nothing on failure. `note` stands in the alias of
// both, for whoever cannot see the pins.
Result<uint32_t> create_link_pair(Rtnl &nl, const std::string &note = {});

// What create_link_pair() was given to note; empty: nothing, or not our device.
std::string noted_on(const Device &link);

// Sets both ends up again, if someone has set them down. `link`: one of them.
Status start_link_pair(Rtnl &nl, const Device &link);

// Both ends, as far as they are in this network namespace, whatever they are called by now.
Result<std::vector<Device>> find_our_links(Rtnl &nl);

// Removes the pair if it exists and is ours, whatever it is called by now. `known`: numbers of ends
// of it whose marks others may have removed. True: it was removed.
Result<bool> remove_link_pair(Rtnl &nl, const std::set<uint32_t> &known = {});

} // namespace doppel
