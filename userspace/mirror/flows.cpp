// SPDX-License-Identifier: Apache-2.0
// The flow table joined with the shadows.
#include "userspace/mirror/flows.h"

#include <arpa/inet.h>

#include <algorithm>
#include <map>

#include "userspace/mirror/flow_walk.h"
#include "userspace/mirror/maps.h"
#include "userspace/util/clock.h"
#include "userspace/util/text.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
// Bytes from `from` to `to` in sequence space; 0 if `to` lies before it.
uint32_t distance(uint32_t from, uint32_t to) {
  auto d = static_cast<int32_t>(to - from);
  return d > 0 ? static_cast<uint32_t>(d) : 0;
}

uint64_t since_ms(uint64_t now_ns, uint64_t then_ns) {
  return now_ns > then_ns ? (now_ns - then_ns) / 1'000'000 : 0;
}

void describe_shadow(const dp_shadow &s, uint64_t now_ns, FlowRow *row) {
  row->shadow = {Address{s.ep.shadow_addr}, ntohs(s.ep.shadow_port)};
  row->target = {Address{s.ep.address}, ntohs(s.ep.target_port)};
  row->state = shadow_state_name(s.tcp.state);
  row->joined = (s.tcp.flags & DP_SH_JOINED) != 0;
  row->observed = s.tcp.observed;
  row->delivered = s.tcp.delivered;
  // The SYN takes one number of the sequence space and is no byte of payload; nor is the FIN,
  // which comes after `end`.
  uint32_t first = s.tcp.isn + 1;
  uint32_t una = distance(first, s.tcp.una) ? s.tcp.una : first;
  uint32_t nxt = distance(first, s.tcp.nxt) ? s.tcp.nxt : first;
  row->in_flight = distance(una, s.tcp.end);
  row->waiting_to_send = distance(nxt, s.tcp.end);
  row->window = s.tcp.wnd;
  row->cwnd = s.tcp.cwnd;
  row->ssthresh = s.tcp.ssthresh;
  row->resent = s.tcp.resent;
  row->rto_ms = s.tcp.rto_ms;
  row->srtt_us = s.tcp.srtt_us / 8; // scaled, see dp_shadow
  row->age_ms = since_ms(now_ns, s.tcp.opened_ns);
  row->idle_ms = since_ms(now_ns, s.tcp.seen_ns);
}

// What the description of the mirror says of a mapping.
struct Mapped {
  std::string name;
  uint16_t port_first = 0;
  std::vector<Endpoint> targets; // with the ports for port_first
};

// By their rows in the map.
std::map<uint32_t, Mapped> mapped(const std::vector<NamedMapping> &mappings) {
  std::map<uint32_t, Mapped> rows;
  for (const NamedMapping &n : mappings) {
    Mapped &m = rows[n.row];
    m.name = n.name;
    if (const auto ports = parse_ports(n.ports))
      m.port_first = ports->first;
    for (const std::string &t : n.targets)
      m.targets.push_back(parse_endpoint(t).value_or(Endpoint{}));
  }
  return rows;
}

void describe_mapping(const Mapped &m, const dp_flow_key &key, FlowRow *row) {
  row->mapping = m.name;
  if (key.target >= m.targets.size())
    return;
  row->target = m.targets[key.target];
  row->target.port = static_cast<uint16_t>(row->target.port + row->server.port - m.port_first);
}

FlowRow row_of(const dp_flow_key &key, const dp_flow &flow,
               const std::map<uint32_t, Mapped> &mappings, const std::optional<dp_shadow> &shadow,
               uint64_t now_ns) {
  FlowRow row;
  row.client = {Address{key.client}, ntohs(key.client_port)};
  row.server = {Address{key.server}, ntohs(key.server_port)};
  row.copy = key.copy;
  if (const auto m = mappings.find(key.mapping); m != mappings.end())
    describe_mapping(m->second, key, &row);
  if (shadow && shadow->gen == flow.gen) {
    describe_shadow(*shadow, now_ns, &row);
  } else {
    row.state = kWaiting;
    row.reason = flow.excluded < DP_EXCLUDED_N ? excluded_reasons[flow.excluded].name : "unknown";
    row.idle_ms = since_ms(now_ns, flow.seen_ns);
  }
  return row;
}

Status check_mapping(const std::string &name, const std::vector<NamedMapping> &mappings) {
  std::vector<std::string> names;
  names.reserve(mappings.size());
  for (const NamedMapping &n : mappings)
    names.push_back(n.name);
  if (name.empty() || std::find(names.begin(), names.end(), name) != names.end())
    return Unit{};
  const auto near = nearest(name, names);
  return Error{"--mapping", "no mapping is called " + in_quotes(name),
               near ? "did you mean " + in_quotes(*near) + "?" : "doppel status lists them all",
               Exit::usage};
}

} // namespace

Result<FlowList> read_flows(const FlowQuery &query) {
  const auto attached = TRY(find_attached("flows"));
  TRY(check_mapping(query.mapping, attached.meta.mappings));
  const auto flows = TRY(open_table(attached.pins, "flows", sizeof(dp_flow), Access::read));
  const auto shadows = TRY(open_table(attached.pins, "shadows", sizeof(dp_shadow), Access::read));
  const auto mappings = mapped(attached.meta.mappings);
  const uint64_t now = monotonic_ns();
  FlowList list(query);
  const auto add = [&](const dp_flow_key &key, const dp_flow &flow) -> Status {
    std::optional<dp_shadow> shadow;
    if (flow.slot < shadows.entries)
      shadow = read_shadow(shadows, flow.slot);
    list.add(row_of(key, flow, mappings, shadow, now));
    return Unit{};
  };
  FlowWalk walk;
  while (TRY(walk.step(flows, add)))
    ;
  list.finish();
  return list;
}

} // namespace doppel
