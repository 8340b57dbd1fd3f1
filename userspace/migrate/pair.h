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
  std::vector<std::string> devices = {};
  // Without an address: those that other mappings of these ports and this device have.
  std::vector<Address> others = {};
  bool udp = false; // its traffic; commands go by TCP, and are paired by other mappings
  // What goes to that address is this mapping's; one that is not set may be.
  bool has(const Address &server) const;
  // Likewise, of what comes by its device: only `lo` brings what goes to a loopback address.
  bool captures(const Address &server) const;
};
MappingEnds ends_of(const MappingConfig &mapping);
MappingEnds ends_of(const NamedMapping &mapping);

// `source`, of one of the mapping's ports, with each target; none: of another port or address.
std::vector<Pair> pairs_from(const MappingEnds &mapping, const memcached::Server &source);

// `source`, by whichever address it is asked, with each target.
std::vector<Pair> pairs_at(const MappingEnds &mapping, const memcached::Server &source);

// Where this host asks the sockets that take the mapping's traffic of a port: at the mapping's
// address; without one at 127.0.0.1 or ::1 where the same socket has these, or at the address that
// the socket is bound to. None: nobody listens, or one of them cannot be asked.
std::vector<std::string> source_hosts(const MappingEnds &mapping,
                                      const std::vector<Listener> &listeners, uint16_t port);

// What goes to the one and to the other comes to the same socket.
bool is_one_socket(const std::vector<Listener> &listeners, uint16_t port, const Address &a,
                   const Address &b);

struct MappingSources {
  // Port by port. Those of a port may be several servers, or one that listens more than once.
  std::vector<std::vector<memcached::Server>> ports;
  std::vector<PortRange> unserved;
};
// Fails where the services are not on this host.
Result<MappingSources> sources_of(const MappingEnds &mapping,
                                  const std::vector<Listener> &listeners);

// Ports of a mapping that stand for no pair: nothing of them can be judged.
struct Unpaired {
  std::string subject;        // "data 11212"
  std::string reason, remedy; // as of Finding
};
// The targets of a mapping of UDP whose servers no mapping of TCP among `all` leads to, where they
// could be asked: its ports on the same target, from the same place.
std::vector<Unpaired> udp_alone(const MappingEnds &udp, const std::vector<MappingEnds> &all);
Unpaired unserved_ports(const MappingEnds &mapping, const std::vector<PortRange> &ports);

// The rows of a mirror that lead from `source` to `target`, an address in numbers and a port.
std::vector<RowName> rows_between(const std::vector<MappingEnds> &mappings, uint16_t source_port,
                                  const Address &target, uint16_t target_port);

// All rows of a mapping.
std::vector<RowName> rows_of(const MappingEnds &mapping);

} // namespace doppel::migrate
