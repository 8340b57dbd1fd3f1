// SPDX-License-Identifier: Apache-2.0
// A source with the target that takes its place: named by the user, or by a mapping. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "userspace/config/config.h"
#include "userspace/memcached/server.h"
#include "userspace/plan/plan.h"

namespace doppel::migrate {

struct Pair {
  std::string mapping; // empty: none leads from the one to the other
  memcached::Server source, target;
  std::string text() const; // "SOURCE -> TARGET"
};

// A row of the ledger.
struct RowName {
  std::string mapping, target; // as in Counters
  friend bool operator==(const RowName &a, const RowName &b) {
    return a.mapping == b.mapping && a.target == b.target;
  }
};

// What of a mapping tells who its source and its targets are.
struct MappingEnds {
  std::string name;
  PortRange ports;
  bool here = true; // the services are this host's: direction ingress
  struct Target {
    Address address;
    uint16_t port = 0; // of the first port of the range
  };
  std::vector<Target> targets;
  Address address = {}; // that the clients connect to; not set: any
  std::string device = {};
  // Without an address: those that other mappings of these ports and this device have.
  std::vector<Address> others = {};
  // What goes to that address is this mapping's; one that is not set may be.
  bool has(const Address &server) const;
};
MappingEnds ends_of(const MappingConfig &mapping);
MappingEnds ends_of(const NamedMapping &mapping);

// `source`, of one of the mapping's ports, with each target; none: of another port or address.
std::vector<Pair> pairs_from(const MappingEnds &mapping, const memcached::Server &source);

// A pair for each port of the mapping that a socket of this host listens on, and each target. The
// source is asked at the mapping's address; without one at 127.0.0.1 or ::1, which are captured
// nowhere, or at the listener's own address, where it is bound to one. Fails where nobody listens,
// or the services are not on this host.
Result<std::vector<Pair>> pairs_of(const MappingEnds &mapping,
                                   const std::vector<Listener> &listeners);

// The rows of a mirror that lead from `source` to `target`, an address in numbers and a port.
std::vector<RowName> rows_between(const std::vector<MappingEnds> &mappings, uint16_t source_port,
                                  const Address &target, uint16_t target_port);

// All rows of a mapping.
std::vector<RowName> rows_of(const MappingEnds &mapping);

} // namespace doppel::migrate
