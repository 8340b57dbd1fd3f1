// SPDX-License-Identifier: Apache-2.0
// Who the sources and targets are: of a configuration, of the mirror that is attached, or as named.
#pragma once

#include <string>
#include <vector>

#include "userspace/config/config.h"
#include "userspace/memcached/access.h"
#include "userspace/migrate/pair.h"
#include "userspace/mirror/maps.h"

namespace doppel::migrate {

// What this host's sockets listen on, of the ports of these mappings.
Result<std::vector<Listener>> listeners_of(const std::vector<MappingEnds> &mappings);

std::vector<MappingEnds> ends_of(const Config &config);
std::vector<MappingEnds> ends_of(const std::vector<NamedMapping> &mappings);

// The one of that name, or with an empty name all of them. Errors: none of them is called so.
Result<std::vector<MappingEnds>> named(std::vector<MappingEnds> mappings, const std::string &name);

// The addresses of a server: in numbers, or looked up. None: a socket's path, or not known.
std::vector<Address> addresses_of(const memcached::Server &server);

// A server of this host: by a socket's path, or an address that is this host's own.
bool is_here(const memcached::Server &server);

// Those of the mirror's mappings that may capture that source: what this host serves is captured by
// `direction` ingress, unless the mapping is promiscuous. A loopback address counts where the
// server that answers there is the one that takes the mapping's traffic.
Result<std::vector<NamedMapping>> mappings_of(const Attached &attached,
                                              const memcached::Server &source,
                                              const memcached::Access &access);

// A sentence without full stop: none of these may.
std::string no_mapping(const memcached::Server &source, const memcached::Server &target);

struct FoundPairs {
  std::vector<Pair> pairs;
  std::vector<Unpaired> unpaired;
};
// A pair for each port of the mapping that one server of this host takes the traffic of, and each
// target. Fails where the services are not on this host.
Result<FoundPairs> find_pairs(const MappingEnds &mapping, const std::vector<Listener> &listeners,
                              const memcached::Access &access);

} // namespace doppel::migrate
