// SPDX-License-Identifier: Apache-2.0
// Whether requests come by the device on which a mapping captures them, as far as devices, sockets
// and connections of a host tell. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/plan/plan.h"

namespace doppel {

// Null: there is none of that number.
const DeviceView *device_of(const HostView &host, uint32_t ifindex);

// The device that has the address, but for the loopback device, which may have any service's: then
// and where no device has it, null.
const DeviceView *owner_of(const HostView &host, const Address &address);

// How two devices belong together: "e0 is a port of bridge br0", "e0.7 is a VLAN device of e0".
// Empty: not at all.
std::string relation(const HostView &host, const DeviceView &a, const DeviceView &b);

// Whether what a mapping captures on `upper` is captured by `m` on `lower` as well, in the same
// direction and of the same port.
enum class SamePackets { no, maybe, yes };
SamePackets same_packets(const HostView &host, const MappingConfig &m, const DeviceView &lower,
                         const DeviceView &upper);

// Of one device, whatever is captured: on which other one most of what comes by it is to be
// captured, a sentence. Empty: nothing stands against it.
std::string trap(const HostView &host, const DeviceView &device);

// Why mappings may see nothing, or not all, and what to capture on: a sentence each. What only the
// state of the moment shows (no connection yet, no listener yet) is not among them.
std::vector<std::string> blind_spots(const Config &config, const HostView &host);

} // namespace doppel
