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
      if (!m.address.is_set() && other.address.is_set() && other.device == m.device &&
          other.here == m.here && other.ports.first <= m.ports.last &&
          m.ports.first <= other.ports.last)
        m.others.push_back(other.address);
  return ends;
}

// What goes to one of these may be the mapping's.
bool has_any(const MappingEnds &m, const std::vector<Address> &servers) {
  return servers.empty() || std::any_of(servers.begin(), servers.end(), [&](const Address &a) {
           return is_loopback(a) || m.has(a);
         });
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
                                              const memcached::Server &source) {
  const auto rows = TRY(open_table(attached.pins, "mappings", sizeof(dp_mapping)));
  const bool here = is_here(source);
  const auto addresses = addresses_of(source);
  std::vector<NamedMapping> some;
  for (const NamedMapping &m : attached.meta.mappings) {
    if (!has_any(ends_of(m), addresses))
      continue;
    dp_mapping row{};
    if (bpf_map_lookup_elem(rows.fd.get(), &m.row, &row))
      return sys_error("map mappings", "cannot be read", errno);
    if (here || (row.flags & (DP_MAP_EGRESS | DP_MAP_ANY_HOST)))
      some.push_back(m);
  }
  return some;
}

} // namespace doppel::migrate
