// SPDX-License-Identifier: Apache-2.0
// What in a configuration cannot be true together, whatever the host looks like.
#include <netinet/in.h>

#include <algorithm>
#include <string>
#include <utility>

#include "userspace/config/config.h"
#include "userspace/config/settings.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
void add(Errors &errors, const std::string &where, std::string what, std::string hint) {
  errors.push_back({where, std::move(what), std::move(hint), Exit::usage});
}

void check_targets(const MappingConfig &m, Errors &errors) {
  if (m.targets.size() > DP_MAX_TARGETS)
    add(errors, m.where,
        std::to_string(m.targets.size()) + " targets are more than the " +
            std::to_string(DP_MAX_TARGETS) + " that a mapping can have",
        "remove some");
  for (size_t i = 0; i < m.targets.size(); i++) {
    const TargetConfig &t = m.targets[i];
    if (t.port == 0 || m.port_first == 0)
      continue;
    const unsigned last = t.port + (m.port_last - m.port_first);
    if (last > 65535)
      add(errors, t.where,
          "the mapping's " + std::to_string(m.port_last - m.port_first + 1) +
              " ports run past port 65535 on the target",
          "they map onto the target's ports from " + std::to_string(t.port) +
              " upward: the last would be " + std::to_string(last));
    for (size_t j = 0; j < i; j++)
      if (m.targets[j].port == t.port && m.targets[j].address == t.address && t.address.is_set())
        add(errors, t.where, "the target " + endpoint_text(t.address, t.port) + " is given twice",
            "remove one of the two: a target gets one copy");
  }
}

const char *family_name(const Address &a) { return a.is_v4() ? "IPv4" : "IPv6"; }

void check_shadow_addresses(const MappingConfig &m, Errors &errors) {
  for (const TargetConfig &t : m.targets)
    for (size_t i = 0; i < t.shadow_addresses.size(); i++) {
      const ShadowAddress &a = t.shadow_addresses[i];
      if (t.address.is_set() && a.address.family() != t.address.family())
        add(errors, a.where,
            "the address " + a.address.text() + " is of " + family_name(a.address) +
                ", and the target " + t.address.text() + " of " + family_name(t.address),
            "copies come from addresses of the target's family");
      if (t.keep_client)
        add(errors, a.where,
            "\"shadow_addresses\" are this host's, and \"source_address\" says that copies come "
            "from "
            "their clients'",
            "leave one of the two out");
      for (size_t j = 0; j < i; j++)
        if (t.shadow_addresses[j].address == a.address)
          add(errors, a.where, "the address " + a.address.text() + " is given twice",
              "it has all of \"shadow_ports\" once");
    }
}

// A pool is the range of shadow ports of one address; the routes' own share one.
uint64_t pools_of(const Config &config) { return 1 + shadow_addresses(config).size(); }

void check_pools(const Config &config, Errors &errors) {
  const uint64_t ports = config.limits.port_last - config.limits.port_first + 1U;
  const uint64_t pools = pools_of(config);
  if (pools > DP_MAX_POOLS)
    add(errors, config.source,
        std::to_string(pools - 1) +
            " \"shadow_addresses\" of all targets together are more than "
            "the " +
            std::to_string(DP_MAX_POOLS - 1) + " that fit",
        "let targets share addresses");
  else if (pools > 1 && pools * ports > 1U << DP_SLOT_BITS)
    add(errors, config.source,
        std::to_string(pools - 1) + " \"shadow_addresses\" and the routes' own, with " +
            std::to_string(ports) + " \"shadow_ports\" each, are more than the " +
            std::to_string(1U << DP_SLOT_BITS) + " that fit",
        "name fewer addresses, or give them fewer ports");
}

void check_preambles(const MappingConfig &m, Errors &errors) {
  for (const TargetConfig &t : m.targets)
    if (!m.join && m.protocol == IPPROTO_TCP && (!t.preamble.empty() || !t.preamble_file.empty()))
      add(errors, t.where,
          "has a preamble, which is for connections that join, and no connection of this mapping "
          "does",
          R"(leave the preamble out, or "join": "never")");
}

// What is of a connection, which a datagram has none of.
void check_protocol(const MappingConfig &m, Errors &errors) {
  if (m.protocol != IPPROTO_UDP)
    return;
  if (m.converge)
    add(errors, m.where, "\"converge\" reads requests of TCP, and the mapping is one of UDP",
        "leave \"converge\" out");
  if (!m.join)
    add(errors, m.where, R"("join": "never" is for connections, and UDP has none)",
        "leave \"join\" out");
  for (const TargetConfig &t : m.targets)
    if (!t.preamble.empty() || !t.preamble_file.empty())
      add(errors, t.where, "has a preamble, which is for connections, and UDP has none",
          "leave the preamble out");
}

void check_converge(const MappingConfig &m, Errors &errors) {
  if (m.converge && m.application != DP_APP_MEMCACHED)
    add(errors, m.where, "\"converge\" reads requests of memcached, and the application is another",
        "say \"application\": \"memcached\", or leave \"converge\" out");
  if (m.converge && m.direction != DP_DIR_INGRESS)
    add(errors, m.where,
        "\"converge\" asks the source, and that is another host (direction egress)",
        "mirror on the host of the source, or leave \"converge\" out");
}

// What a target lacks, or has more than once, no comparison can repair.
void check_portions(const MappingConfig &m, Errors &errors) {
  if (m.converge && m.dry_run) {
    add(errors, m.where, "\"converge\" writes to the targets, and \"dry_run\" sends them nothing",
        "leave one of the two out");
    return;
  }
  for (const TargetConfig &t : m.targets)
    if (m.converge && !t.portion.is_whole())
      add(errors, t.where,
          "the target gets " + portion_text(t.portion) +
              ", and \"converge\" makes it equal to the source",
          "leave \"sample\" and \"copies\" out, or \"converge\"");
}

bool overlap(const MappingConfig &a, const MappingConfig &b) {
  return a.port_first != 0 && b.port_first != 0 && a.direction == b.direction &&
         a.protocol == b.protocol && a.address == b.address && a.port_first <= b.port_last &&
         b.port_first <= a.port_last && share_device(a.devices, b.devices);
}

void check_pair(const MappingConfig &earlier, const MappingConfig &later, Errors &errors) {
  if (overlap(earlier, later))
    add(errors, later.where,
        "ports " + service_text(later) + " overlap ports " + service_text(earlier) + " of " +
            earlier.where,
        "a port of a device is captured once per direction, and once for each \"address\": give "
        "one mapping two targets instead");
  else if (!later.name.empty() && earlier.name == later.name)
    add(errors, later.where, "the name " + in_quotes(later.name) + " is taken by " + earlier.where,
        "each mapping needs a name of its own");
}

// Idle shadows hold nothing when the store is short; with more of them to a chunk not even a small
// part of them could wait for the target at once.
constexpr uint64_t kShadowsPerChunk = 64;

// A shadow holds a chunk from a request's first byte until the target has acknowledged its last.
void check_store(const Config &config, Errors &errors) {
  const Limits &l = config.limits;
  const uint64_t ports = l.port_last - l.port_first + 1U, pools = pools_of(config);
  const uint64_t shadows = ports * pools, chunks = l.store_bytes / DP_CHUNK;
  if (chunks * kShadowsPerChunk >= shadows)
    return;
  add(errors, config.source,
      "\"store\" (" + std::to_string(l.store_bytes) + " bytes) is too small for " +
          std::to_string(shadows) + " \"shadow_ports\"" +
          (pools == 1 ? "" : " of " + std::to_string(pools) + " addresses"),
      "give at least " +
          std::to_string((shadows + kShadowsPerChunk - 1) / kShadowsPerChunk * DP_CHUNK) +
          " bytes, or fewer ports: one shadow in " + std::to_string(kShadowsPerChunk) +
          " must be able to hold something");
}

void check_port_count(const Config &config, Errors &errors) {
  uint64_t ports = 0;
  for (const MappingConfig &m : config.mappings)
    if (m.port_first != 0 && m.port_last >= m.port_first)
      ports += (m.port_last - m.port_first + 1U) * std::max<size_t>(m.devices.size(), 1);
  if (ports > DP_MAX_PORTS)
    add(errors, config.source,
        std::to_string(ports) + " ports of all mappings together are more than the " +
            std::to_string(DP_MAX_PORTS) + " that fit",
        "mirror fewer ports, which count on each device: those that nobody serves cost room as "
        "well");
}

void check_prefix_count(const Config &config, Errors &errors) {
  uint64_t prefixes = 0;
  for (const MappingConfig &m : config.mappings)
    if (m.clients)
      prefixes += m.clients->entries().size();
  if (prefixes > DP_MAX_PREFIXES)
    add(errors, config.source,
        std::to_string(prefixes) + " prefixes of all mappings together are more than the " +
            std::to_string(DP_MAX_PREFIXES) + " that fit",
        "join neighbouring prefixes into shorter ones");
}

} // namespace

Errors contradictions(const Config &config) {
  Errors errors;
  const auto &m = config.mappings;
  if (m.size() > DP_MAX_MAPPINGS) {
    add(errors, config.source,
        std::to_string(m.size()) + " mappings are more than the " +
            std::to_string(DP_MAX_MAPPINGS) + " that fit",
        "join neighbouring ports into ranges");
    return errors;
  }
  for (size_t i = 0; i < m.size(); i++) {
    check_targets(m[i], errors);
    check_shadow_addresses(m[i], errors);
    check_preambles(m[i], errors);
    check_protocol(m[i], errors);
    check_converge(m[i], errors);
    check_portions(m[i], errors);
    for (size_t j = 0; j < i; j++)
      check_pair(m[j], m[i], errors);
  }
  check_port_count(config, errors);
  check_prefix_count(config, errors);
  check_pools(config, errors);
  check_store(config, errors);
  for (Error &e : limit_contradictions(config))
    errors.push_back(std::move(e));
  return errors;
}

} // namespace doppel
