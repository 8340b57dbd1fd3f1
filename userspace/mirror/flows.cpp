// SPDX-License-Identifier: Apache-2.0
// The flow table joined with the shadows.
#include "userspace/mirror/flows.h"

#include <arpa/inet.h>

#include <algorithm>

#include "userspace/mirror/maps.h"
#include "userspace/util/address.h"
#include "userspace/util/clock.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
const char *state_name(uint8_t state) {
  switch (state) {
  case DP_CLOSED:
    return "CLOSED";
  case DP_SYN_SENT:
    return "SYN-SENT";
  case DP_ESTABLISHED:
    return "ESTABLISHED";
  case DP_FIN_WAIT:
    return "FIN-WAIT";
  case DP_CLOSE_WAIT:
    return "CLOSE-WAIT";
  case DP_LAST_ACK:
    return "LAST-ACK";
  case DP_TIME_WAIT:
    return "TIME-WAIT";
  default:
    return "UNKNOWN";
  }
}

// Bytes from `from` to `to` in sequence space; 0 if `to` lies before it.
uint32_t distance(uint32_t from, uint32_t to) {
  auto d = static_cast<int32_t>(to - from);
  return d > 0 ? static_cast<uint32_t>(d) : 0;
}

uint64_t since_ms(uint64_t now_ns, uint64_t then_ns) {
  return now_ns > then_ns ? (now_ns - then_ns) / 1'000'000 : 0;
}

void describe_shadow(const dp_shadow &s, uint64_t now_ns, FlowRow *row) {
  row->shadow = endpoint_text(Address{s.ep.shadow_addr}, ntohs(s.ep.shadow_port));
  row->target = endpoint_text(Address{s.ep.address}, ntohs(s.ep.target_port));
  row->state = state_name(s.tcp.state);
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

} // namespace

Result<std::vector<FlowRow>> read_flows() {
  auto attached = TRY(find_attached("flows"));
  auto flow_table = TRY(open_table(attached.pins, "flows", sizeof(dp_flow)));
  auto shadow_table = TRY(open_table(attached.pins, "shadows", sizeof(dp_shadow)));
  auto shadows = TRY(read_shadows(shadow_table));
  auto flows = TRY(read_flow_table(flow_table));

  const auto &mappings = attached.meta.mappings;
  uint64_t now = monotonic_ns();
  std::vector<FlowRow> rows;
  for (const auto &entry : flows) {
    const dp_flow_key &key = entry.first;
    const dp_flow &flow = entry.second;
    FlowRow row;
    auto m = std::find_if(mappings.begin(), mappings.end(),
                          [&](const NamedMapping &n) { return n.row == key.mapping; });
    if (m != mappings.end()) {
      row.mapping = m->name;
      if (key.target < m->targets.size())
        row.target = m->targets[key.target];
    }
    row.client = endpoint_text(Address{key.client}, ntohs(key.client_port));
    row.server = endpoint_text(Address{key.server}, ntohs(key.server_port));
    if (flow.slot < shadows.size() && shadows[flow.slot].gen == flow.gen) {
      describe_shadow(shadows[flow.slot], now, &row);
    } else {
      row.state = "WAITING";
      row.reason = flow.excluded < DP_EXCLUDED_N ? excluded_reasons[flow.excluded].name : "unknown";
      row.idle_ms = since_ms(now, flow.seen_ns);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

} // namespace doppel
