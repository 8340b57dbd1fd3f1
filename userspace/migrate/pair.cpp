// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/pair.h"

#include <netinet/in.h>

#include <algorithm>
#include <optional>

#include "userspace/util/endpoint.h"
#include "userspace/util/text.h"

namespace doppel::migrate {
namespace {
const char kWords[] = "name the two as SOURCE TARGET";
constexpr size_t kMostTold = 4; // ranges of ports, in one sentence

// The kernel's name of the one device that brings what is addressed to 127.0.0.1 or ::1.
bool is_of_loopback(const MappingEnds &m) {
  return std::find(m.devices.begin(), m.devices.end(), "lo") != m.devices.end();
}

// A link-local address is nothing to ask at: it needs a scope.
bool takes_traffic(const MappingEnds &m, const Listener &l) {
  if (!l.address.is_set())
    return true;
  return m.captures(l.address) && !needs_scope(l.address);
}

// A socket that is bound to the address goes before one of any.
const Listener *listener_at(const std::vector<Listener> &listeners, uint16_t port,
                            const Address &own) {
  const Listener *found = nullptr;
  for (const Listener &l : listeners)
    if (l.port == port && l.takes(own) &&
        (!found || (l.address.is_set() && !found->address.is_set())))
      found = &l;
  return found;
}

// Several sockets of one server may share a place (SO_REUSEPORT).
bool is_bound_alike(const Listener &a, const Listener &b) {
  return a.address == b.address && a.ifindex == b.ifindex && a.v4 == b.v4 && a.v6 == b.v6;
}

// Where this host asks that socket; nothing: others have the loopback addresses, or it is bound to
// a device.
std::optional<std::string> host_of(const Listener &l, const std::vector<Listener> &listeners) {
  if (l.address.is_set())
    return l.address.text();
  for (const char *loopback : {"127.0.0.1", "::1"}) {
    const Listener *at = listener_at(listeners, l.port, *parse_address(loopback));
    if (at && !l.ifindex && is_bound_alike(*at, l))
      return loopback;
  }
  return std::nullopt;
}

} // namespace

std::string Pair::text() const { return source.text() + " -> " + target.text(); }

bool MappingEnds::captures(const Address &server) const {
  return (!is_loopback(server) || is_of_loopback(*this)) && has(server);
}

bool MappingEnds::has(const Address &server) const {
  if (!server.is_set())
    return true;
  return address.is_set() ? address == server
                          : std::find(others.begin(), others.end(), server) == others.end();
}

MappingEnds ends_of(const MappingConfig &m) {
  MappingEnds ends{m.name, {m.port_first, m.port_last}, m.direction == DP_DIR_INGRESS, {}};
  ends.udp = m.protocol == IPPROTO_UDP;
  ends.address = m.address;
  ends.devices = m.devices;
  for (const TargetConfig &t : m.targets)
    ends.targets.push_back({t.address, t.port});
  return ends;
}

MappingEnds ends_of(const NamedMapping &m) {
  MappingEnds ends{m.name, {}, m.direction == "ingress", {}};
  if (const auto ports = parse_ports(m.ports))
    ends.ports = *ports;
  ends.udp = m.protocol == protocol_name(IPPROTO_UDP);
  ends.address = parse_address(m.address).value_or(Address{});
  ends.devices = m.devices;
  for (const std::string &t : m.targets)
    if (const auto end = parse_endpoint(t))
      ends.targets.push_back({end->address, end->port});
  return ends;
}

std::vector<Pair> pairs_from(const MappingEnds &m, const memcached::Server &source) {
  if (m.udp || source.port < m.ports.first || source.port > m.ports.last)
    return {};
  // Of a name nothing is known here.
  if (const auto host = parse_address(source.host); host && !m.captures(*host))
    return {};
  return pairs_at(m, source);
}

std::vector<Pair> pairs_at(const MappingEnds &m, const memcached::Server &source) {
  std::vector<Pair> pairs;
  for (const auto &t : m.targets) {
    Pair pair{m.name, source, {}};
    pair.target.host = t.address.text();
    pair.target.port = static_cast<uint16_t>(t.port + (source.port - m.ports.first));
    pairs.push_back(std::move(pair));
  }
  return pairs;
}

std::vector<std::string> source_hosts(const MappingEnds &m, const std::vector<Listener> &listeners,
                                      uint16_t port) {
  if (m.address.is_set())
    return listener_at(listeners, port, m.address) ? std::vector{m.address.text()}
                                                   : std::vector<std::string>{};
  std::vector<std::string> hosts;
  for (const Listener &l : listeners) {
    if (l.port != port || !takes_traffic(m, l))
      continue;
    const auto host = host_of(l, listeners);
    if (!host)
      return {};
    if (std::find(hosts.begin(), hosts.end(), *host) == hosts.end())
      hosts.push_back(*host);
  }
  // What is captured nowhere first.
  std::stable_partition(hosts.begin(), hosts.end(),
                        [](const std::string &host) { return is_loopback(*parse_address(host)); });
  return hosts;
}

bool is_one_socket(const std::vector<Listener> &listeners, uint16_t port, const Address &a,
                   const Address &b) {
  const Listener *at = listener_at(listeners, port, a);
  const Listener *other = listener_at(listeners, port, b);
  return at && other && is_bound_alike(*at, *other);
}

Result<MappingSources> sources_of(const MappingEnds &m, const std::vector<Listener> &listeners) {
  if (!m.here)
    return Error{"mapping " + in_quotes(m.name), "its source is not on this host", kWords};
  MappingSources found;
  if (m.udp)
    return found;
  for (uint32_t p = m.ports.first; p <= m.ports.last; p++) {
    const auto port = static_cast<uint16_t>(p);
    std::vector<memcached::Server> servers;
    for (const std::string &host : source_hosts(m, listeners, port))
      servers.push_back({host, port, ""});
    if (!servers.empty())
      found.ports.push_back(std::move(servers));
    else if (!found.unserved.empty() && found.unserved.back().last + 1 == port)
      found.unserved.back().last = port;
    else
      found.unserved.push_back({port, port});
  }
  return found;
}

std::vector<Unpaired> udp_alone(const MappingEnds &udp, const std::vector<MappingEnds> &all) {
  const auto leads = [&](const MappingEnds &m, uint32_t port, const MappingEnds::Target &to) {
    const bool same_place = m.here == udp.here && m.address == udp.address;
    return !m.udp && same_place && m.ports.first <= port && port <= m.ports.last &&
           std::any_of(m.targets.begin(), m.targets.end(), [&](const auto &t) {
             return t.address == to.address &&
                    t.port + (port - m.ports.first) == to.port + (port - udp.ports.first);
           });
  };
  std::vector<Unpaired> alone;
  for (const auto &t : udp.targets)
    for (uint32_t port = udp.udp ? udp.ports.first : UINT32_MAX; port <= udp.ports.last; port++)
      if (std::none_of(all.begin(), all.end(),
                       [&](const MappingEnds &m) { return leads(m, port, t); })) {
        alone.push_back({udp.name + " " + endpoint_text(t.address, t.port),
                         "is of UDP, and no mapping of TCP leads to the same servers",
                         "judge the servers by their names: doppel ready SOURCE TARGET"});
        break;
      }
  return alone;
}

Unpaired unserved_ports(const MappingEnds &m, const std::vector<PortRange> &ports) {
  std::vector<std::string> some;
  for (const PortRange &range : ports)
    if (some.size() < kMostTold)
      some.push_back(ports_text(range));
  std::string text = joined(some);
  if (ports.size() > kMostTold)
    text += " and more";
  const std::string at = m.address.is_set() ? " at " + m.address.text() : "";
  return {m.name + " " + text, "no server is found among the sockets of this host" + at,
          "start the server and call doppel ready anew, or leave the port out of the mapping; "
          "where another socket serves it "
          "(a redirect, a container's port), judge that pair by its names: doppel ready SOURCE "
          "TARGET"};
}

std::vector<RowName> rows_between(const std::vector<MappingEnds> &mappings, uint16_t source_port,
                                  const Address &target, uint16_t target_port) {
  std::vector<RowName> rows;
  for (const MappingEnds &m : mappings) {
    if (source_port < m.ports.first || source_port > m.ports.last)
      continue;
    for (const auto &t : m.targets)
      if (t.address == target && t.port + (source_port - m.ports.first) == target_port)
        rows.push_back({m.name, endpoint_text(t.address, t.port)});
  }
  return rows;
}

std::vector<RowName> rows_of(const MappingEnds &m) {
  std::vector<RowName> rows;
  for (const auto &t : m.targets)
    rows.push_back({m.name, endpoint_text(t.address, t.port)});
  return rows;
}

} // namespace doppel::migrate
