// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/plan.h"

#include <netinet/in.h>

#include <algorithm>

#include "doppel/names.h"
#include "userspace/plan/named_devices.h"
#include "userspace/plan/plan_checks.h"
#include "userspace/plan/topology.h"

namespace doppel {
namespace {
// A route without an MTU of its own has its device's; 1500 where neither is known (RFC 894).
uint16_t path_mtu(const Route &route, const HostView &host) {
  const DeviceView *d = find_device(host, route.device);
  uint32_t mtu = route.mtu;
  if (mtu == 0 && d != nullptr)
    mtu = d->mtu;
  return static_cast<uint16_t>(mtu == 0 ? 1500 : std::min(mtu, 65535U));
}

dp_config config_row(const Limits &l, size_t pools) {
  dp_config c{};
  c.port_first = l.port_first;
  c.ports = static_cast<uint32_t>(l.port_last - l.port_first + 1);
  c.slots = static_cast<uint32_t>(c.ports * pools);
#define DP_PUT_user_space(field, max)
#define DP_PUT_data_plane(field, max)                                                              \
  static_assert(max <= UINT32_MAX, "the data plane has 32 bits for " #field);                      \
  c.field = static_cast<uint32_t>(l.field);
#define DP_SETTING(key, former, measure, field, home, when, min, max, standard, help)              \
  DP_PUT_##home(field, max)
#include "doppel/settings.def"
  return c;
}

// The place of the address; 0 where nobody lists it.
__u8 pool_of(const std::vector<Address> &pools, const Address &address) {
  const auto pool = std::find(pools.begin(), pools.end(), address);
  return static_cast<__u8>(pool == pools.end() ? 0 : pool - pools.begin());
}

void put_pools(const TargetConfig &t, const Address &own, const std::vector<Address> &pools,
               dp_target &target) {
  target.pool[target.n_pools++] = pool_of(pools, own);
  for (const ShadowAddress &a : t.shadow_addresses)
    target.pool[target.n_pools++] = pool_of(pools, a.address);
  std::sort(target.pool + 1, target.pool + target.n_pools); // the list has no order
}

dp_mapping mapping_row(const MappingConfig &m, const HostView &host,
                       const std::vector<Address> &pools) {
  dp_mapping row{};
  row.application = static_cast<__u8>(m.application);
  row.flags = static_cast<__u16>(
      (m.join ? 0 : DP_MAP_JOIN_NEVER) | (m.any_host ? DP_MAP_ANY_HOST : 0) |
      (m.direction == DP_DIR_EGRESS ? DP_MAP_EGRESS : 0) | (m.converge ? DP_MAP_CONVERGE : 0) |
      (m.protocol == IPPROTO_UDP ? DP_MAP_UDP : 0));
  row.ports = static_cast<__u16>(m.port_last - m.port_first);
  row.max_bps = m.max_bps;
  row.seed = static_cast<__u32>(m.seed);
  for (const TargetConfig &t : m.targets) {
    const Route &route = host.routes.at(t.address.text());
    dp_target &target = row.target[row.n_targets++];
    target.address = t.address.raw;
    target.shadow_addr = route.source.raw;
    put_pools(t, route.source, pools, target);
    target.oif = route.oif;
    // A gateway may be one of several, another by policy, or gone tomorrow: the kernel knows.
    // Of this host itself as well, and its packets need a route: see bpf/packet/send.bpf.h.
    if (route.plain && !route.gateway.is_set() && !route.local)
      target.nexthop = t.address.raw;
    target.port = t.port;
    target.mtu = path_mtu(route, host);
    target.sample = sample_bound(t.portion.sample);
    target.copies = static_cast<__u8>(t.portion.copies);
    target.keep_client = t.keep_client;
    if (t.portion.copies > 1)
      row.flags |= DP_MAP_COPIES;
  }
  return row;
}

} // namespace

NamedMapping name_of(const MappingConfig &m) {
  NamedMapping n;
  n.name = m.name;
  n.devices = m.devices;
  n.direction = direction_name(m.direction);
  n.protocol = protocol_name(m.protocol);
  n.ports = ports_text({m.port_first, m.port_last});
  if (m.address.is_set())
    n.address = m.address.text();
  if (m.clients)
    n.clients = m.clients->id();
  for (const TargetConfig &t : m.targets)
    n.targets.push_back(endpoint_text(t.address, t.port));
  return n;
}

namespace {

void add_ports(const MappingConfig &m, uint16_t index, uint32_t ifindex,
               std::vector<PortRow> &rows) {
  for (unsigned port = m.port_first; port <= m.port_last; port++) {
    PortRow row{};
    row.key.port.ifindex = ifindex;
    row.key.port.port = static_cast<__u16>(port);
    row.key.port.proto = m.protocol;
    row.key.port.direction = static_cast<__u8>(m.direction);
    row.key.address = m.address.raw;
    row.val.mapping = index;
    row.val.offset = static_cast<__u16>(port - m.port_first);
    rows.push_back(row);
  }
}

void attach_once(std::vector<Attachment> &list, const Attachment &a) {
  if (std::find(list.begin(), list.end(), a) == list.end())
    list.push_back(a);
}

// All returns, then all captures: what a target answers must not be taken for a client's. A target
// may answer by another device than the one that leads to it (asymmetric routes, two NICs on a
// wire, a failover), and this host's stack would reset it there: so return is on every device.
std::vector<Attachment> attachments(const Config &config, const HostView &host) {
  std::vector<Attachment> list;
  for (const MappingConfig &m : config.mappings)
    for (const TargetConfig &t : m.targets) {
      const Route &route = host.routes.at(t.address.text());
      if (!route.device.empty())
        attach_once(list, {DP_PROG_RETURN, route.device, route.oif, DP_DIR_INGRESS});
    }
  for (const DeviceView &d : host.devices)
    if (d.answers && !config.mappings.empty())
      attach_once(list, {DP_PROG_RETURN, d.name, d.ifindex, DP_DIR_INGRESS, true});
  for (const MappingConfig &m : config.mappings) {
    const char *program = m.direction == DP_DIR_INGRESS ? DP_PROG_INGRESS : DP_PROG_EGRESS;
    for (const std::string &name : m.devices)
      attach_once(list, {program, name, find_device(host, name)->ifindex, m.direction});
  }
  return list;
}

// What this host cannot find out: where another one sends its answers.
std::vector<std::string> kept_sources(const Config &config) {
  std::vector<std::string> notes;
  for (const MappingConfig &m : config.mappings)
    for (const TargetConfig &t : m.targets)
      if (t.keep_client)
        notes.push_back(
            "mapping " + m.name + ": copies to " + endpoint_text(t.address, t.port) +
            " have their clients' addresses: its routes to the clients must lead to this "
            "host, or it is never heard (docs/where-to-attach.md)");
  return notes;
}

// What targets get that is not all of it, once.
std::vector<std::string> unfit_targets(const Config &config) {
  std::vector<std::string> notes;
  for (const MappingConfig &m : config.mappings) {
    if (m.clients)
      notes.push_back("mapping " + m.name + ": its clients are " + clients_text(m.clients->id()) +
                      ": its targets lack what others write");
    for (const TargetConfig &t : m.targets)
      if (!t.portion.is_whole())
        notes.push_back("mapping " + m.name + ": target " + endpoint_text(t.address, t.port) +
                        " gets " + portion_text(t.portion) + " and " + why_unfit(t.portion));
  }
  return notes;
}

} // namespace

uint32_t store_rows(const Config &config, uint32_t chunks) {
  uint32_t most = 1;
  for (const MappingConfig &m : config.mappings) {
    uint32_t shadows = 0;
    for (const TargetConfig &t : m.targets)
      shadows += t.portion.copies;
    most = std::max(most, shadows);
  }
  return chunks * std::min(most, kSharedRows);
}

dp_preamble preamble_row(const std::string &bytes) {
  dp_preamble p{};
  p.len = static_cast<__u32>(bytes.copy(reinterpret_cast<char *>(p.data), sizeof(p.data)));
  return p;
}

std::string NamedMapping::device_list() const { return joined(devices); }

bool Listener::takes(const Address &own) const {
  if (address.is_set())
    return address == own;
  return own.is_v4() ? v4 : v6;
}

Result<Plan> make_plan(const Config &wanted, const HostView &host) {
  Plan plan;
  Errors errors;
  const Config config = named_devices(wanted, host, errors);
  for (Error &e : contradictions(config))
    errors.push_back(std::move(e));
  if (!errors.empty())
    return errors;
  check_devices(config, host, errors, plan.warnings);
  check_targets(config, host, errors);
  check_shadow_addresses(config, host, errors, plan.warnings);
  check_kept_clients(config, shadow_addresses(config), host, errors);
  check_stacked(config, host, errors, plan.warnings);
  check_ipsec(config, host, errors);
  check_shadow_ports(config, host, errors);
  check_attach_mode(config, host, errors);
  if (!errors.empty())
    return errors;

  plan.notes = blind_spots(config, host);
  if (!host.output_rules.empty())
    plan.notes.push_back("copies are not subject to this host's rules for what it sends (" +
                         joined(host.output_rules) + "): they pass netfilter by");
  for (std::string &note : kept_sources(config))
    plan.notes.push_back(std::move(note));
  for (std::string &note : unfit_targets(config))
    plan.notes.push_back(std::move(note));
  plan.limits = config.limits;
  plan.limits.store_bytes -= plan.limits.store_bytes % DP_CHUNK;
  plan.limits.max_mappings = std::max<uint64_t>(plan.limits.max_mappings, config.mappings.size());
  for (const Address &a : shadow_addresses(config))
    plan.pools.push_back(a);
  plan.config = config_row(plan.limits, plan.pools.size());
  plan.flows = static_cast<uint32_t>(plan.limits.flows);
  plan.chunks = static_cast<uint32_t>(plan.limits.store_bytes / DP_CHUNK);
  plan.store_rows = store_rows(config, plan.chunks);
  for (const MappingConfig &m : config.mappings) {
    for (const std::string &name : m.devices)
      add_ports(m, static_cast<uint16_t>(plan.mappings.size()), find_device(host, name)->ifindex,
                plan.ports);
    plan.mappings.push_back(mapping_row(m, host, plan.pools));
    plan.clients.push_back(m.clients);
    plan.mappings.back().clients = static_cast<__u16>(m.clients ? plan.clients.size() : 0);
    plan.names.push_back(name_of(m));
    plan.names.back().clients.number = plan.mappings.back().clients;
    Preambles &preambles = plan.preambles.emplace_back();
    for (const TargetConfig &t : m.targets)
      preambles.push_back(t.preamble);
    plan.names.back().row = static_cast<uint32_t>(plan.names.size() - 1);
  }
  plan.attachments = attachments(config, host);
  plan.mode = config.attach_mode != AttachMode::clsact && host.has_tcx ? AttachMode::tcx
                                                                       : AttachMode::clsact;
  return plan;
}

} // namespace doppel
