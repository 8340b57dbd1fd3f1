// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/ends.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>

#include "userspace/kernel/host_net.h"
#include "userspace/kernel/host_view.h"
#include "userspace/kernel/rtnl.h"
#include "userspace/kernel/socket_address.h"
#include "userspace/memcached/resolve.h"
#include "userspace/migrate/same_server.h"
#include "userspace/util/clock.h"
#include "userspace/util/fd.h"
#include "userspace/util/text.h"

namespace doppel::migrate {
namespace {
constexpr uint64_t kLookUpNs = 5'000'000'000;

using memcached::Endpoint;

std::vector<Endpoint> look_up(const memcached::Server &server) {
  const auto found = memcached::resolve(server, monotonic_ns() + kLookUpNs);
  return found ? *found : std::vector<Endpoint>{};
}

// What the kernel would use as its own address toward it is that address itself. Nothing is sent.
bool is_own_source(const Endpoint &to) {
  const Fd fd(::socket(to.address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr *>(&to.address), to.size))
    return false;
  const Address own = own_end(fd.get()).address;
  return own.is_set() && own == end_in(to.address).address;
}

// The second IPv4 address of a network is reached from the first one (fib_add_ifaddr()), so that
// its route has to tell. That waits for the lock of all devices (rtnl), and so comes last.
bool is_own(const Endpoint &to) {
  if (is_own_source(to))
    return true;
  auto nl = Rtnl::open();
  if (!nl)
    return false;
  const auto route = route_to(*nl, end_in(to.address).address);
  return route && *route && (*route)->local;
}

std::vector<MappingEnds> with_others(std::vector<MappingEnds> ends) {
  for (MappingEnds &m : ends)
    for (const MappingEnds &other : ends)
      if (!m.address.is_set() && other.address.is_set() && share_device(other.devices, m.devices) &&
          other.here == m.here && other.ports.first <= m.ports.last &&
          m.ports.first <= other.ports.last)
        m.others.push_back(other.address);
  return ends;
}

// What answers at a loopback address, where that is all that takes the mapping's traffic.
bool takes_traffic(const MappingEnds &m, const std::vector<Listener> &listeners,
                   const memcached::Server &source, const memcached::Access &access) {
  const auto own = parse_address(source.host); // of a name the socket is not known
  const auto hosts = source_hosts(m, listeners, source.port);
  return m.here && !hosts.empty() &&
         std::all_of(hosts.begin(), hosts.end(), [&](const std::string &host) {
           if (own && is_one_socket(listeners, source.port, *own, *parse_address(host)))
             return true;
           const auto one = is_one(source, {host, source.port, ""}, access);
           return one && *one;
         });
}

// What `source`, of these addresses, is sent may be the mapping's.
Result<bool> may_be_of(const MappingEnds &m, const memcached::Server &source,
                       const std::vector<Address> &addresses, const memcached::Access &access) {
  if (addresses.empty() || std::any_of(addresses.begin(), addresses.end(),
                                       [&](const Address &a) { return m.captures(a); }))
    return true;
  if (std::none_of(addresses.begin(), addresses.end(), is_loopback))
    return false;
  return takes_traffic(m, TRY(listeners_of({m})), source, access);
}

// Why that port stands for no pair; empty: its sockets are one server's.
std::string why_several(const std::vector<memcached::Server> &sources,
                        const memcached::Access &access) {
  for (size_t i = 1; i < sources.size(); i++) {
    const std::string both = sources[0].text() + " and " + sources[i].text();
    const auto one = is_one(sources[0], sources[i], access);
    if (!one)
      return "whether " + both + " are one server is not known: " + one.errors().front().where +
             ": " + one.errors().front().what;
    if (!*one)
      return both + " are two servers, and no target can be equal to both";
  }
  return {};
}

} // namespace

Result<std::vector<Listener>> listeners_of(const std::vector<MappingEnds> &mappings) {
  std::vector<PortRange> ports;
  ports.reserve(mappings.size());
  for (const MappingEnds &m : mappings)
    ports.push_back(m.ports);
  return list_listeners(ports);
}

std::vector<MappingEnds> ends_of(const Config &config) {
  std::vector<MappingEnds> ends;
  ends.reserve(config.mappings.size());
  for (const MappingConfig &m : config.mappings)
    ends.push_back(ends_of(m));
  return with_others(std::move(ends));
}

std::vector<MappingEnds> ends_of(const std::vector<NamedMapping> &mappings) {
  std::vector<MappingEnds> ends;
  ends.reserve(mappings.size());
  for (const NamedMapping &m : mappings)
    ends.push_back(ends_of(m));
  return with_others(std::move(ends));
}

Result<std::vector<MappingEnds>> named(std::vector<MappingEnds> mappings, const std::string &name) {
  if (name.empty())
    return mappings;
  std::vector<std::string> names;
  for (MappingEnds &m : mappings) {
    if (m.name == name)
      return std::vector<MappingEnds>{std::move(m)};
    names.push_back(m.name);
  }
  return Error{"--mapping", "there is no mapping " + in_quotes(name),
               names.empty() ? "" : "known are " + quoted_list(names), Exit::usage};
}

std::vector<Address> addresses_of(const memcached::Server &server) {
  if (!server.path.empty())
    return {};
  if (const auto plain = parse_address(server.host))
    return {*plain};
  std::vector<Address> found;
  for (const Endpoint &e : look_up(server))
    if (const Address a = end_in(e.address).address; a.is_set())
      found.push_back(a);
  return found;
}

bool is_here(const memcached::Server &server) {
  if (!server.path.empty())
    return true;
  const auto found = look_up(server);
  return !found.empty() && is_own(found.front());
}

Result<std::vector<NamedMapping>> mappings_of(const Attached &attached,
                                              const memcached::Server &source,
                                              const memcached::Access &access) {
  const auto rows = TRY(open_table(attached.pins, "mappings", sizeof(dp_mapping)));
  const bool here = is_here(source);
  const auto addresses = addresses_of(source);
  const auto ends = ends_of(attached.meta.mappings);
  std::vector<NamedMapping> some;
  for (size_t i = 0; i < ends.size(); i++) {
    const NamedMapping &m = attached.meta.mappings[i];
    if (!TRY(may_be_of(ends[i], source, addresses, access)))
      continue;
    dp_mapping row{};
    if (bpf_map_lookup_elem(rows.fd.get(), &m.row, &row))
      return sys_error("map mappings", "cannot be read", errno);
    if (here || (row.flags & (DP_MAP_EGRESS | DP_MAP_ANY_HOST)))
      some.push_back(m);
  }
  return some;
}

std::string no_mapping(const memcached::Server &source, const memcached::Server &target) {
  std::string text = "no mapping leads from " + source.text() + " to " + target.text();
  const auto addresses = addresses_of(source);
  if (std::any_of(addresses.begin(), addresses.end(), is_loopback))
    text += "; " + source.host +
            " counts where the server there takes the mapping's traffic, or else name the address "
            "that its clients connect to";
  return text;
}

Result<FoundPairs> find_pairs(const MappingEnds &m, const std::vector<Listener> &listeners,
                              const memcached::Access &access) {
  const auto sources = TRY(sources_of(m, listeners));
  FoundPairs found;
  for (const auto &servers : sources.ports) {
    if (const std::string why = why_several(servers, access); !why.empty()) {
      found.unpaired.push_back({m.name + " " + std::to_string(servers[0].port), why,
                                "give each service a mapping with its \"address\""});
      break; // the others are likely to be the same, and each takes time to ask
    }
    for (Pair &pair : pairs_at(m, servers[0]))
      found.pairs.push_back(std::move(pair));
  }
  if (!sources.unserved.empty())
    found.unpaired.push_back(unserved_ports(m, sources.unserved));
  return found;
}

} // namespace doppel::migrate
