// SPDX-License-Identifier: Apache-2.0
#include "userspace/view/render.h"

namespace doppel {
namespace {
Json reasons(const __u64 *values, const Reason *names, size_t n) {
  Json j = Json::object();
  for (size_t i = 0; i < n; i++)
    j[names[i].name] = values[i];
  return j;
}

uint64_t sum(const __u64 *values, size_t n) {
  uint64_t s = 0;
  for (size_t i = 0; i < n; i++)
    s += values[i];
  return s;
}

Json counters(const dp_ledger &l, CounterGroup group) {
  Json j = Json::object();
  for (const Counter &c : all_counters()) {
    if (c.group != group)
      continue;
    const uint64_t n = c.value(l);
    j[c.name] = c.gauge ? Json(static_cast<int64_t>(n)) : Json(n);
  }
  return j;
}

Json target_json(const TargetCounters &t) {
  const dp_ledger &l = t.sum;
  Json j;
  j["target"] = t.target;
  const auto complete = completeness(l);
  j["complete"] = complete ? Json(*complete) : Json(nullptr);
  j["missing"] = missing(l);
  j["flows"] = counters(l, CounterGroup::flows);
  j["bytes"] = counters(l, CounterGroup::bytes);
  j["bytes"]["lost"] = sum(l.lost, DP_LOST_N);
  j["bytes"]["excluded"] = sum(l.excluded, DP_EXCLUDED_N);
  j["packets"] = counters(l, CounterGroup::packets);
  j["lost"] = reasons(l.lost, lost_reasons, DP_LOST_N);
  j["excluded"] = reasons(l.excluded, excluded_reasons, DP_EXCLUDED_N);
  j["events"] = reasons(l.event, event_reasons, DP_EVENT_N);
  return j;
}

} // namespace

Json to_json(const Counters &c) {
  Json j;
  j["mappings"] = Json::array();
  for (const MappingCounters &m : c.mappings) {
    Json targets = Json::array();
    for (const TargetCounters &t : m.targets)
      targets.push_back(target_json(t));
    Json row;
    row["name"] = m.name;
    row["targets"] = std::move(targets);
    j["mappings"].push_back(std::move(row));
  }
  j["events"] = reasons(c.global.event, event_reasons, DP_EVENT_N);
  j["store"] = {{"chunk_bytes", DP_CHUNK}, {"chunks", c.chunks}, {"used", c.chunks_used}};
  j["shadow_ports"] = {{"total", c.ports}, {"free", c.ports_free}};
  return j;
}

Json to_json(const std::vector<FlowRow> &flows) {
  Json list = Json::array();
  for (const FlowRow &f : flows) {
    Json j;
    j["mapping"] = f.mapping;
    j["client"] = f.client;
    j["server"] = f.server;
    j["target"] = f.target;
    j["shadow"] = f.shadow.empty() ? Json(nullptr) : Json(f.shadow);
    j["state"] = f.state;
    j["reason"] = f.reason.empty() ? Json(nullptr) : Json(f.reason);
    j["joined"] = f.joined;
    j["observed"] = f.observed;
    j["delivered"] = f.delivered;
    j["in_flight"] = f.in_flight;
    j["waiting_to_send"] = f.waiting_to_send;
    j["window"] = f.window;
    j["resent"] = f.resent;
    j["rto_ms"] = f.rto_ms;
    j["srtt_us"] = f.srtt_us;
    j["age_ms"] = f.age_ms;
    j["idle_ms"] = f.idle_ms;
    list.push_back(std::move(j));
  }
  return {{"flows", std::move(list)}};
}

Json to_json(const std::vector<NamedMapping> &mappings) {
  Json list = Json::array();
  for (const NamedMapping &m : mappings) {
    Json j;
    j["name"] = m.name;
    j["device"] = m.device;
    j["direction"] = m.direction;
    j["protocol"] = m.protocol;
    j["ports"] = m.ports;
    j["targets"] = m.targets;
    list.push_back(std::move(j));
  }
  return list;
}

Json to_json(const StatusView &s) {
  Json j;
  j["attached"] = s.attached;
  j["whole"] = is_whole(s);
  j["since"] = s.since.empty() ? Json(nullptr) : Json(s.since);
  j["config"] = s.config_source.empty() ? Json(nullptr) : Json(s.config_source);
  j["abi"] = s.abi;
  j["mappings"] = to_json(s.mappings);
  j["hooks"] = Json::array();
  for (const AttachedProgram &h : s.hooks) {
    Json row;
    row["device"] = h.what.device;
    row["hook"] = direction_name(h.what.direction);
    row["position"] = h.position;
    row["program"] = h.what.program;
    row["ours"] = h.ours;
    row["mechanism"] = attach_mode_name(h.mechanism);
    row["prog_id"] = h.prog_id;
    row["link_id"] = h.link_id;
    row["priority"] = h.priority;
    row["handle"] = h.handle;
    j["hooks"].push_back(std::move(row));
  }
  j["missing"] = s.missing;
  j["warnings"] = s.warnings;
  return j;
}

Json to_json(const std::vector<ProbeRow> &probe) {
  Json j;
  j["ok"] = is_able(probe);
  j["features"] = Json::array();
  for (const ProbeRow &p : probe) {
    Json row;
    row["feature"] = p.feature;
    row["ok"] = p.ok;
    row["needed"] = p.needed;
    row["detail"] = p.detail;
    j["features"].push_back(std::move(row));
  }
  return j;
}

Json to_json(const DetachReport &r) {
  Json j;
  j["was_attached"] = r.was_attached;
  j["closed"] = r.closed;
  j["reset"] = r.reset;
  j["counters"] = to_json(r.last);
  return j;
}

Json to_json(const Errors &errors) {
  Json list = Json::array();
  for (const Error &e : errors) {
    Json j;
    j["where"] = e.where;
    j["what"] = e.what;
    j["hint"] = e.hint;
    list.push_back(std::move(j));
  }
  Json j;
  j["errors"] = std::move(list);
  return j;
}

std::string dump(const Json &json, bool one_line) {
  return json.dump(one_line ? -1 : 2, ' ', false, Json::error_handler_t::replace) + "\n";
}

} // namespace doppel
