// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "userspace/util/text.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
Json reasons(const __u64 *values, const Reason *names, size_t n) {
  Json j = Json::object();
  for (size_t i = 0; i < n; i++)
    j[names[i].name] = values[i];
  return j;
}

// An array of what the function makes of each.
template <typename T, typename F> Json list_of(const std::vector<T> &all, F json_of) {
  Json list = Json::array();
  for (const T &one : all)
    list.push_back(json_of(one));
  return list;
}

// A text that is not known, or that there is none of, is null.
Json text_or_null(const std::string &text) { return text.empty() ? Json(nullptr) : Json(text); }

Json time_or_null(std::time_t t) { return t ? Json(iso_time(t)) : Json(nullptr); }

template <typename T> Json or_null(const std::optional<T> &value) {
  return value ? Json(*value) : Json(nullptr);
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

// Of what only grows: bytes, or packets, a second.
Json rates_json(const TargetCounters &t, uint64_t over_ns) {
  Json j = Json::object();
  for (const CounterGroup group : {CounterGroup::bytes, CounterGroup::packets})
    for (const Counter &c : all_counters())
      if (c.group == group && !c.gauge)
        j[c.name] = or_null(rate_of(c.value(t.sum), c.value(t.before), over_ns));
  j["lost"] = or_null(rate_of(sum_of(t.sum.lost), sum_of(t.before.lost), over_ns));
  j["excluded"] = or_null(rate_of(sum_of(t.sum.excluded), sum_of(t.before.excluded), over_ns));
  return j;
}

Json moment_json(uint64_t moment_ns, const Counters &c) {
  return moment_ns ? Json(iso_time(unix_time(moment_ns, c.now_ns, c.now))) : Json(nullptr);
}

Json last_json(const dp_ledger &l, const Counters &c) {
  Json j = Json::object();
  for (const Moment &m : all_moments())
    j[m.name] = moment_json(m.value(l.last), c);
  return j;
}

Json last_loss_json(const dp_ledger &l, const Counters &c) {
  const auto loss = last_loss(l);
  return loss ? Json{{"at", moment_json(loss->at_ns, c)}, {"reason", loss->reason}} : Json(nullptr);
}

Json target_json(const TargetCounters &t, const Counters &all) {
  const dp_ledger &l = t.sum;
  Json j;
  j["target"] = t.target;
  j["sample"] = static_cast<double>(t.portion.sample) / Portion::kAll;
  j["copies"] = t.portion.copies;
  const auto complete = completeness(l);
  j["complete"] = complete ? Json(*complete) : Json(nullptr);
  j["missing"] = missing(l);
  j["flows"] = counters(l, CounterGroup::flows);
  j["bytes"] = counters(l, CounterGroup::bytes);
  j["bytes"]["lost"] = sum_of(l.lost);
  j["bytes"]["excluded"] = sum_of(l.excluded);
  j["packets"] = counters(l, CounterGroup::packets);
  j["lost"] = reasons(l.lost, lost_reasons, DP_LOST_N);
  j["excluded"] = reasons(l.excluded, excluded_reasons, DP_EXCLUDED_N);
  j["events"] = reasons(l.event, event_reasons, DP_EVENT_N);
  j["rates"] = rates_json(t, all.over_ns);
  j["last_loss"] = last_loss_json(l, all);
  j["last"] = last_json(l, all);
  return j;
}

Json converge_json(const dp_converge &row, const Counters &all) {
  Json j = Json::object();
  for (const ConvergeFigure &f : converge_figures())
    j[f.name] = row.*f.value;
  j["oldest_ms"] = unrepaired_ms(row, all.now_ns);
  j["working"] = is_converging(row, all.now_ns);
  return j;
}

Json mapping_json(const MappingCounters &m, const Counters &all) {
  const auto target = [&](const TargetCounters &t) { return target_json(t, all); };
  return {{"name", m.name},
          {"ports", m.ports},
          {"targets", list_of(m.targets, target)},
          {"since", time_or_null(m.since ? m.since : all.attached)},
          {"since_ns", m.since_ns},
          {"converge", m.converge ? converge_json(*m.converge, all) : Json(nullptr)}};
}

Json named_mapping_json(const NamedMapping &m) {
  return {{"name", m.name},
          {"device", m.device_list()},
          {"direction", m.direction},
          {"protocol", m.protocol},
          {"ports", m.ports},
          {"address", m.address.empty() ? Json(nullptr) : Json(m.address)},
          {"targets", m.targets},
          {"clients", m.clients.is_set()
                          ? Json{{"include", m.clients.include}, {"exclude", m.clients.exclude}}
                          : Json(nullptr)}};
}

Json hook_json(const AttachedProgram &h) {
  return {{"device", h.what.device}, {"hook", direction_name(h.what.direction)},
          {"position", h.position},  {"program", h.what.program},
          {"ours", h.ours},          {"mechanism", attach_mode_name(h.mechanism)},
          {"prog_id", h.prog_id},    {"link_id", h.link_id},
          {"priority", h.priority},  {"handle", h.handle}};
}

Json problem_json(const Problem &p) {
  return {{"class", help_of(p.kind).name},
          {"exit", static_cast<int>(help_of(p.kind).exit)},
          {"what", p.what},
          {"do", text_or_null(p.hint)},
          {"since", time_or_null(p.since)}};
}

Json target_health_json(const TargetHealth &t) {
  return {{"mapping", t.mapping},
          {"target", t.target},
          {"state", state_name(t.state)},
          {"since", time_or_null(t.since)},
          {"waits", t.waits},
          {"quiet_ms", or_null(t.quiet_ms)},
          {"lost", t.lost},
          {"lost_in_a_minute", or_null(t.lost_in_a_minute)},
          {"last_loss", t.lost_at ? Json{{"at", iso_time(*t.lost_at)}, {"reason", t.lost_reason}}
                                  : Json(nullptr)}};
}

Json keeper_json(const KeeperView &k) {
  return {{"expected", k.expected},
          {"alive", k.alive},
          {"pid", k.pid > 0 ? Json(k.pid) : Json(nullptr)},
          {"since", time_or_null(k.since)}};
}

Json probe_json(const ProbeRow &p) {
  Json j = {{"feature", p.feature}, {"ok", p.ok}, {"needed", p.needed}, {"detail", p.detail}};
  if (!p.tried)
    j["tried"] = false;
  return j;
}

Json error_json(const Error &e) { return {{"where", e.where}, {"what", e.what}, {"hint", e.hint}}; }

} // namespace

Json to_json(const Counters &c) {
  Json j;
  j["mappings"] = list_of(c.mappings, [&](const MappingCounters &m) { return mapping_json(m, c); });
  j["removed"] = nullptr;
  if (c.removed_mappings > 0) {
    j["removed"] = target_json({"", c.removed, c.removed}, c);
    j["removed"]["target"] = nullptr;
    j["removed"]["mappings"] = c.removed_mappings;
  }
  j["events"] = reasons(c.global.event, event_reasons, DP_EVENT_N);
  j["store"] = {{"chunk_bytes", DP_CHUNK}, {"chunks", c.chunks}, {"used", c.chunks_used}};
  j["shadow_ports"] = {{"total", c.ports}, {"free", c.ports_free}};
  j["time"] = time_or_null(c.now);
  j["attached"] = time_or_null(c.attached);
  j["rates_over_ms"] = c.over_ns / 1'000'000;
  return j;
}

Json to_json(const std::vector<NamedMapping> &mappings) {
  return list_of(mappings, named_mapping_json);
}

Json to_json(const StatusView &s) {
  return {{"attached", s.attached},
          {"whole", is_whole(s)},
          {"since", text_or_null(s.since)},
          {"config", text_or_null(s.config_source)},
          {"abi", s.abi},
          {"mappings", to_json(s.mappings)},
          {"hooks", list_of(s.hooks, hook_json)},
          {"missing", s.missing},
          {"warnings", s.warnings},
          {"well", exit_of(s) == Exit::ok},
          {"exit", static_cast<int>(exit_of(s))},
          {"time", time_or_null(s.now)},
          {"problems", list_of(s.problems, problem_json)},
          {"targets", list_of(s.targets, target_health_json)},
          {"keeper", keeper_json(s.keeper)},
          {"paused", s.paused}};
}

Json to_json(const std::vector<ProbeRow> &probe) {
  return {{"ok", is_able(probe)}, {"features", list_of(probe, probe_json)}};
}

Json to_json(const DetachReport &r) {
  return {{"was_attached", r.was_attached},
          {"closed", r.closed},
          {"reset", r.reset},
          {"owed", r.owed},
          {"lost", r.lost},
          {"ledger", r.ledger},
          {"counters", to_json(r.last)},
          {"errors", list_of(r.errors, error_json)}};
}

Json to_json(const Errors &errors) { return {{"errors", list_of(errors, error_json)}}; }

std::string dump(const Json &json, bool one_line) {
  return json.dump(one_line ? -1 : 2, ' ', false, Json::error_handler_t::replace) + "\n";
}

template <typename T> std::string json_text(const T &value, bool one_line) {
  return dump(to_json(value), one_line);
}
template std::string json_text(const Counters &, bool);
template std::string json_text(const StatusView &, bool);
template std::string json_text(const std::vector<ProbeRow> &, bool);
template std::string json_text(const DetachReport &, bool);
template std::string json_text(const Errors &, bool);

} // namespace doppel
