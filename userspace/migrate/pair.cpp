// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/pair.h"

#include <algorithm>
#include <optional>

#include "userspace/util/endpoint.h"
#include "userspace/util/text.h"

namespace doppel::migrate {
namespace {
const char kWords[] = "name the two as SOURCE TARGET";

// Where this host asks what listens on the port; nothing: nobody does. A link-local address is
// nothing to ask at: it needs a scope.
std::optional<std::string> source_host(const MappingEnds &m, const std::vector<Listener> &listeners,
                                       uint16_t port) {
  if (m.address.is_set()) {
    const bool served = std::any_of(listeners.begin(), listeners.end(), [&](const Listener &l) {
      return l.port == port && l.takes(m.address);
    });
    return served ? std::optional(m.address.text()) : std::nullopt;
  }
  for (const char *loopback : {"127.0.0.1", "::1"})
    for (const Listener &l : listeners)
      if (l.port == port && l.takes(*parse_address(loopback)))
        return loopback;
  for (const Listener &l : listeners)
    if (l.port == port && l.address.is_set() && !needs_scope(l.address) && m.has(l.address))
      return l.address.text();
  return std::nullopt;
}

} // namespace

std::string Pair::text() const { return source.text() + " -> " + target.text(); }

bool MappingEnds::has(const Address &server) const {
  if (!server.is_set())
    return true;
  return address.is_set() ? address == server
                          : std::find(others.begin(), others.end(), server) == others.end();
}

MappingEnds ends_of(const MappingConfig &m) {
  MappingEnds ends{m.name, {m.port_first, m.port_last}, m.direction == DP_DIR_INGRESS, {}};
  ends.address = m.address;
  ends.device = m.device;
  for (const TargetConfig &t : m.targets)
    ends.targets.push_back({t.address, t.port});
  return ends;
}

MappingEnds ends_of(const NamedMapping &m) {
  MappingEnds ends{m.name, {}, m.direction == "ingress", {}};
  if (const auto ports = parse_ports(m.ports))
    ends.ports = *ports;
  ends.address = parse_address(m.address).value_or(Address{});
  ends.device = m.device;
  for (const std::string &t : m.targets)
    if (const auto end = parse_endpoint(t))
      ends.targets.push_back({end->address, end->port});
  return ends;
}

std::vector<Pair> pairs_from(const MappingEnds &m, const memcached::Server &source) {
  std::vector<Pair> pairs;
  if (source.port < m.ports.first || source.port > m.ports.last)
    return pairs;
  // A loopback address leads to what listens on any; of a name nothing is known here.
  if (const auto host = parse_address(source.host); host && !is_loopback(*host) && !m.has(*host))
    return pairs;
  for (const auto &t : m.targets) {
    Pair pair{m.name, source, {}};
    pair.target.host = t.address.text();
    pair.target.port = static_cast<uint16_t>(t.port + (source.port - m.ports.first));
    pairs.push_back(std::move(pair));
  }
  return pairs;
}

Result<std::vector<Pair>> pairs_of(const MappingEnds &m, const std::vector<Listener> &listeners) {
  const std::string where = "mapping " + in_quotes(m.name);
  if (!m.here)
    return Error{where, "its source is not on this host", kWords};
  std::vector<Pair> pairs;
  for (uint32_t port = m.ports.first; port <= m.ports.last; port++) {
    const auto host = source_host(m, listeners, static_cast<uint16_t>(port));
    if (!host)
      continue;
    memcached::Server source;
    source.host = *host;
    source.port = static_cast<uint16_t>(port);
    for (Pair &pair : pairs_from(m, source))
      pairs.push_back(std::move(pair));
  }
  if (pairs.empty())
    return Error{where,
                 "no socket of this host listens on port " +
                     service_text(m.address.is_set() ? m.address.text() : "", ports_text(m.ports)),
                 kWords};
  return pairs;
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
