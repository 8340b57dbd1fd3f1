// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/ends.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "userspace/kernel/host_net.h"
#include "userspace/kernel/rtnl.h"
#include "userspace/kernel/sock_diag.h"
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

const sockaddr *as_sockaddr(const sockaddr_storage &s) {
  return reinterpret_cast<const sockaddr *>(&s);
}

// Not set: of no family that is known here.
Address address_in(const sockaddr_storage &s) {
  if (s.ss_family == AF_INET)
    return Address::v4(reinterpret_cast<const sockaddr_in *>(&s)->sin_addr.s_addr);
  Address a;
  if (s.ss_family == AF_INET6)
    std::memcpy(&a.raw, &reinterpret_cast<const sockaddr_in6 *>(&s)->sin6_addr, sizeof(a.raw));
  return a;
}

// What the kernel would use as its own address toward it is that address itself. Nothing is sent.
bool is_own_source(const Endpoint &to) {
  const Fd fd(::socket(to.address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), as_sockaddr(to.address), to.size))
    return false;
  sockaddr_storage own{};
  socklen_t size = sizeof(own);
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr *>(&own), &size))
    return false;
  return address_in(own) == address_in(to.address);
}

// The second IPv4 address of a network is reached from the first one (fib_add_ifaddr()), so that
// its route has to tell. That waits for the lock of all devices (rtnl), and so comes last.
bool is_own(const Endpoint &to) {
  if (is_own_source(to))
    return true;
  auto nl = Rtnl::open();
  if (!nl || to.address.ss_family != AF_INET)
    return false;
  const auto route = route_to(*nl, address_in(to.address));
  return route && *route && (*route)->local;
}

} // namespace

Result<std::vector<Listener>> listeners_of(const std::vector<MappingEnds> &mappings) {
  SocketPorts ports;
  for (const MappingEnds &m : mappings)
    ports.local.push_back(m.ports);
  std::vector<Listener> listeners;
  const auto see = [&](const TcpSocket &s) {
    Address a{s.local};
    if (a.is_v4() && a.raw.w[3] == 0) // 0.0.0.0
      a = {};
    if (!a.is_set() || a.is_v4()) // mappings are of IPv4
      listeners.push_back({a, ntohs(s.local_port), s.ifindex});
  };
  if (!mappings.empty())
    TRY(each_tcp_socket(ports, see, SocketKind::listening));
  return listeners;
}

std::vector<MappingEnds> ends_of(const Config &config) {
  std::vector<MappingEnds> ends;
  ends.reserve(config.mappings.size());
  for (const MappingConfig &m : config.mappings)
    ends.push_back(ends_of(m));
  return ends;
}

std::vector<MappingEnds> ends_of(const std::vector<NamedMapping> &mappings) {
  std::vector<MappingEnds> ends;
  ends.reserve(mappings.size());
  for (const NamedMapping &m : mappings)
    ends.push_back(ends_of(m));
  return ends;
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

std::optional<Address> address_of(const memcached::Server &server) {
  if (!server.path.empty())
    return std::nullopt;
  if (const auto plain = parse_address(server.host))
    return plain;
  for (const Endpoint &e : look_up(server))
    if (e.address.ss_family == AF_INET) // as all targets are
      return address_in(e.address);
  return std::nullopt;
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
  std::vector<NamedMapping> some;
  for (const NamedMapping &m : attached.meta.mappings) {
    dp_mapping row{};
    if (bpf_map_lookup_elem(rows.fd.get(), &m.row, &row))
      return sys_error("map mappings", "cannot be read", errno);
    if (here || (row.flags & (DP_MAP_EGRESS | DP_MAP_ANY_HOST)))
      some.push_back(m);
  }
  return some;
}

} // namespace doppel::migrate
