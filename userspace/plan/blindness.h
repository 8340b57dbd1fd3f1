// SPDX-License-Identifier: Apache-2.0
// Whether a mirror that runs sees what is asked of the services that it mirrors. Pure.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "userspace/plan/plan.h"

namespace doppel {

// A mirror is judged by what was asked within so many seconds.
inline constexpr uint32_t kBlindSeconds = 30;

// A connection of a mapping's ports over which something was asked within kBlindSeconds.
struct AskedConnection {
  uint32_t ifindex = 0;   // by which the requests come to this host, or leave it; 0: unknown
  bool seen = false;      // the mirror saw it as well
  bool served = true;     // by a socket of this host; false, on a client host: it asks
  Address passed_to;      // set: no socket of this host has it, which passes it on to that address
  uint32_t passed_by = 0; // ifindex of the device by which it leaves this host then
};

struct MappingView {
  std::string mapping;
  std::vector<std::string> devices;
  std::set<uint32_t> ifindexes; // of the devices, as far as they are there
  dp_direction direction = DP_DIR_INGRESS;
  PortRange ports;
  Address address = {}; // that the clients connect to; not set: any but those of `others`
  std::vector<Address> others = {}; // of mappings for the same ports of a device
  bool takes(const Address &server) const;
  std::string service() const; // its ports, and its address if it has one
  std::string where() const;   // "eth0 and eth1"
  bool any_host = false;
  // Since attach: packets that were captured, bytes of them that the source took, and packets that
  // no socket takes.
  uint64_t captured = 0, observed = 0, no_socket = 0;
  bool heard = false; // bytes of clients became part of the ledger within kBlindSeconds
  std::vector<AskedConnection> asked;
};

// What is asked and not seen: a sentence each, with its way out. Nobody who asks nothing is missed.
std::vector<std::string> blindness(const std::vector<MappingView> &views, const HostView &host);

} // namespace doppel
