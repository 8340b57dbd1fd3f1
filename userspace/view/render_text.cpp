// SPDX-License-Identifier: Apache-2.0
#include "userspace/view/render.h"
#include "userspace/view/table.h"

namespace doppel {
namespace {
int64_t sum(const __u64 *values, size_t n) {
  uint64_t s = 0;
  for (size_t i = 0; i < n; i++)
    s += values[i];
  return static_cast<int64_t>(s);
}

int64_t number(uint64_t n) { return static_cast<int64_t>(n); }

template <typename F> void each_target(const Counters &c, F f) {
  for (const MappingCounters &m : c.mappings)
    for (const TargetCounters &t : m.targets)
      f(m.name, t.target, t.sum);
}

std::string bytes_table(const Counters &c) {
  Table table({"MAPPING", "TARGET", ">COMPLETE", ">MISSING", ">OBSERVED", ">DELIVERED",
               ">IN FLIGHT", ">LOST", ">EXCLUDED"});
  each_target(c, [&](const std::string &mapping, const std::string &target, const dp_ledger &l) {
    const auto complete = completeness(l);
    table.row({mapping, target, complete ? human_share(*complete) : "-",
               human_bytes(number(missing(l))), human_bytes(number(l.observed)),
               human_bytes(number(l.delivered)), human_bytes(l.in_flight),
               human_bytes(sum(l.lost, DP_LOST_N)), human_bytes(sum(l.excluded, DP_EXCLUDED_N))});
  });
  return table.text();
}

std::string flows_table(const Counters &c) {
  Table table({"MAPPING", "TARGET", ">OPEN", ">WAITING", ">OPENED", ">JOINED", ">CLOSED", ">BROKEN",
               ">CAPTURED", ">COPIED", ">RESENT", ">RESPONSES"});
  each_target(c, [&](const std::string &mapping, const std::string &target, const dp_ledger &l) {
    table.row({mapping, target, human_count(l.open), human_count(l.waiting),
               human_count(number(l.opened)), human_count(number(l.joined)),
               human_count(number(l.closed)), human_count(number(l.broken)),
               human_count(number(l.captured)), human_count(number(l.copied)),
               human_count(number(l.resent)), human_count(number(l.responses))});
  });
  return table.text();
}

void add_reasons(Table &table, const std::string &mapping, const std::string &target,
                 const char *kind, const __u64 *values, const Reason *names, size_t n,
                 std::string (*human)(int64_t)) {
  for (size_t i = 0; i < n; i++)
    if (values[i] != 0)
      table.row({mapping, target, kind, names[i].name, human(number(values[i])), names[i].help});
}

std::string reasons_table(const Counters &c) {
  Table table({"MAPPING", "TARGET", "WHAT", "REASON", ">AMOUNT", "MEANING"});
  each_target(c, [&](const std::string &mapping, const std::string &target, const dp_ledger &l) {
    add_reasons(table, mapping, target, "lost", l.lost, lost_reasons, DP_LOST_N, human_bytes);
    add_reasons(table, mapping, target, "excluded", l.excluded, excluded_reasons, DP_EXCLUDED_N,
                human_bytes);
    add_reasons(table, mapping, target, "event", l.event, event_reasons, DP_EVENT_N, human_count);
  });
  add_reasons(table, "-", "-", "event", c.global.event, event_reasons, DP_EVENT_N, human_count);
  return table.empty() ? "" : "\n" + table.text();
}

std::string amount(uint32_t used, uint32_t total, uint64_t unit) {
  return human_bytes(number(used * unit)) + " of " + human_bytes(number(total * unit));
}

} // namespace

std::string to_text(const Counters &c) {
  return bytes_table(c) + "\n" + flows_table(c) + reasons_table(c) +
         "\nstore: " + amount(c.chunks_used, c.chunks, DP_CHUNK) +
         " used   shadow ports: " + human_count(c.ports - c.ports_free) + " of " +
         human_count(c.ports) + " used\n";
}

std::string to_text(const std::vector<FlowRow> &flows) {
  if (flows.empty())
    return "no flows\n";
  Table table({"MAPPING", "CLIENT", "SERVER", "TARGET", "SHADOW", "STATE", "REASON", ">OBSERVED",
               ">DELIVERED", ">IN FLIGHT", ">TO SEND", ">WINDOW", ">RESENT", ">RTT", ">RTO", ">AGE",
               ">IDLE"});
  for (const FlowRow &f : flows)
    table.row({f.mapping, f.client, f.server, f.target, f.shadow.empty() ? "-" : f.shadow,
               f.state + (f.joined ? " (joined)" : ""), f.reason.empty() ? "-" : f.reason,
               human_bytes(number(f.observed)), human_bytes(number(f.delivered)),
               human_bytes(f.in_flight), human_bytes(f.waiting_to_send), human_bytes(f.window),
               human_count(f.resent), human_count(f.srtt_us) + " us", human_ms(f.rto_ms),
               human_ms(f.age_ms), human_ms(f.idle_ms)});
  return table.text();
}

std::string to_text(const std::vector<NamedMapping> &mappings) {
  Table table({"MAPPING", "DEVICE", "DIRECTION", "PROTOCOL", "PORTS", "TARGETS"});
  for (const NamedMapping &m : mappings) {
    std::string targets;
    for (const std::string &t : m.targets)
      targets += (targets.empty() ? "" : ", ") + t;
    table.row({m.name, m.device, m.direction, m.protocol, m.ports, targets});
  }
  return table.text();
}

std::string to_text(const StatusView &s) {
  std::string out;
  if (s.attached) {
    out = "attached since " + s.since + ", from " + s.config_source + "\n\n" + to_text(s.mappings) +
          "\n";
    Table hooks({"DEVICE", "HOOK", ">POS", "PROGRAM", "OURS", "BY", ">PROG ID", ">LINK ID", ">PRIO",
                 ">HANDLE"});
    const auto id = [](uint32_t n) { return n == 0 ? std::string("-") : std::to_string(n); };
    for (const AttachedProgram &h : s.hooks)
      hooks.row({h.what.device, direction_name(h.what.direction), std::to_string(h.position),
                 h.what.program, h.ours ? "yes" : "no", attach_mode_name(h.mechanism),
                 id(h.prog_id), id(h.link_id), id(h.priority), id(h.handle)});
    out += hooks.text();
  } else {
    out = "not attached\n";
  }
  for (const std::string &m : s.missing)
    out += "missing: " + m + "\n";
  for (const std::string &w : s.warnings)
    out += "warning: " + w + "\n";
  return out;
}

std::string to_text(const std::vector<ProbeRow> &probe) {
  Table table({"FEATURE", "FOUND", "NEEDED", "DETAIL"});
  for (const ProbeRow &p : probe)
    table.row({p.feature, p.ok ? "yes" : "no", p.needed ? "yes" : "no", p.detail});
  return table.text() + "\n" +
         (is_able(probe) ? "this host can mirror\n" : "this host cannot mirror\n");
}

std::string to_text(const DetachReport &r) {
  if (!r.was_attached)
    return "nothing was attached\n";
  return "detached: " + human_count(r.closed) + " shadows closed, " + human_count(r.reset) +
         " reset\n\n" + to_text(r.last);
}

std::string to_text(const Errors &errors) {
  std::string out;
  for (const Error &e : errors) {
    out += "error: " + (e.where.empty() ? "" : e.where + ": ") + e.what + "\n";
    if (!e.hint.empty())
      out += "hint: " + e.hint + "\n";
  }
  return out;
}

} // namespace doppel
