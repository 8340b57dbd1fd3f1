// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>

#include "userspace/util/text.h"
#include "userspace/view/render.h"
#include "userspace/view/table.h"

namespace doppel {
namespace {
int64_t number(uint64_t n) { return static_cast<int64_t>(n); }

template <typename F> void each_target(const Counters &c, F f) {
  for (const MappingCounters &m : c.mappings)
    for (const TargetCounters &t : m.targets)
      f(m.name, t.target, t.sum);
  if (c.removed_mappings > 0)
    f("(removed)", "-", c.removed);
}

// The heading of a column of numbers: "in_flight" as ">IN FLIGHT".
std::string heading(std::string name) {
  for (char &c : name)
    c = c == '_' ? ' ' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return ">" + name;
}

std::vector<Counter> counters_of(CounterGroup group) {
  std::vector<Counter> list;
  for (const Counter &c : all_counters())
    if (c.group == group)
      list.push_back(c);
  return list;
}

const std::vector<Counter> &bytes_counters() {
  static const std::vector<Counter> list = counters_of(CounterGroup::bytes);
  return list;
}

Table bytes_columns(std::vector<std::string> headings) {
  headings.insert(headings.end(), {">COMPLETE", ">MISSING"});
  for (const Counter &counter : bytes_counters())
    headings.push_back(heading(counter.name));
  headings.insert(headings.end(), {">LOST", ">EXCLUDED"});
  return Table(headings);
}

void add_bytes(Table &table, std::vector<std::string> row, const dp_ledger &l) {
  const auto complete = completeness(l);
  row.push_back(complete ? human_share(*complete) : "-");
  row.push_back(human_bytes(number(missing(l))));
  for (const Counter &counter : bytes_counters())
    row.push_back(human_bytes(number(counter.value(l))));
  row.push_back(human_bytes(number(sum_of(l.lost))));
  row.push_back(human_bytes(number(sum_of(l.excluded))));
  table.row(row);
}

std::string bytes_table(const Counters &c) {
  Table table = bytes_columns({"MAPPING", "TARGET"});
  each_target(c, [&](const std::string &mapping, const std::string &target, const dp_ledger &l) {
    add_bytes(table, {mapping, target}, l);
  });
  return table.text();
}

uint16_t first_port(const MappingCounters &m) {
  const size_t colon = m.ports.rfind(':'); // behind an address
  const auto ports = parse_ports(m.ports.substr(colon == std::string::npos ? 0 : colon + 1));
  return ports ? ports->first : 0;
}

// Of the flows what is so at present comes first, then what has happened; then the packets.
std::string flows_table(const Counters &c) {
  std::vector<Counter> counters = counters_of(CounterGroup::flows);
  std::stable_partition(counters.begin(), counters.end(), [](const Counter &f) { return f.gauge; });
  for (const Counter &p : counters_of(CounterGroup::packets))
    counters.push_back(p);
  std::vector<std::string> headings = {"MAPPING", "TARGET"};
  for (const Counter &counter : counters)
    headings.push_back(heading(counter.name));
  Table table(headings);
  each_target(c, [&](const std::string &mapping, const std::string &target, const dp_ledger &l) {
    std::vector<std::string> row = {mapping, target};
    for (const Counter &counter : counters)
      row.push_back(human_count(number(counter.value(l))));
    table.row(row);
  });
  return table.text();
}

std::vector<Counter> totals_of(CounterGroup group) {
  std::vector<Counter> list = counters_of(group);
  std::erase_if(list, [](const Counter &counter) { return counter.gauge; });
  return list;
}

std::string last_loss_text(const dp_ledger &l, const Counters &c) {
  const auto loss = last_loss(l);
  return loss ? std::string(loss->reason) + ", " +
                    human_ms((c.now_ns - std::min(c.now_ns, loss->at_ns)) / 1'000'000) + " ago"
              : "-";
}

std::string rates_table(const Counters &c) {
  const auto bytes = totals_of(CounterGroup::bytes), packets = totals_of(CounterGroup::packets);
  std::vector<std::string> headings = {"MAPPING", "TARGET"};
  for (const Counter &counter : bytes)
    headings.push_back(heading(counter.name) + "/s");
  headings.insert(headings.end(), {">LOST/s", ">EXCLUDED/s"});
  for (const Counter &counter : packets)
    headings.push_back(heading(counter.name) + "/s");
  headings.push_back("LAST LOSS");
  Table table(headings);
  for (const MappingCounters &m : c.mappings)
    for (const TargetCounters &t : m.targets) {
      std::vector<std::string> row = {m.name, t.target};
      const auto rate = [&](uint64_t now, uint64_t before, std::string (*human)(int64_t)) {
        const auto r = rate_of(now, before, c.over_ns);
        row.push_back(r ? human(number(*r)) : "-");
      };
      for (const Counter &counter : bytes)
        rate(counter.value(t.sum), counter.value(t.before), human_bytes);
      rate(sum_of(t.sum.lost), sum_of(t.before.lost), human_bytes);
      rate(sum_of(t.sum.excluded), sum_of(t.before.excluded), human_bytes);
      for (const Counter &counter : packets)
        rate(counter.value(t.sum), counter.value(t.before), human_count);
      row.push_back(last_loss_text(t.sum, c));
      table.row(row);
    }
  return table.text();
}

// "2024-05-01T12:34:56+0200, attached since 2024-05-01T12:00:00+0200 (34m 56s)"
std::string time_line(const Counters &c) {
  if (!c.now)
    return "";
  const auto s = static_cast<uint64_t>(std::max<std::time_t>(c.now - c.attached, 0));
  return iso_time(c.now) + ", attached since " + iso_time(c.attached) + " (" + human_ms(s * 1000) +
         ")\n\n";
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

// Of mappings that converge.
std::string converge_table(const Counters &c) {
  std::vector<std::string> headings = {"CONVERGING", "WORKING"};
  for (const ConvergeFigure &f : converge_figures())
    headings.push_back(heading(f.name));
  headings.push_back(">OLDEST");
  Table table(headings);
  for (const MappingCounters &m : c.mappings) {
    if (!m.converge)
      continue;
    std::vector<std::string> row = {m.name, is_converging(*m.converge, c.now_ns) ? "yes" : "no"};
    for (const ConvergeFigure &f : converge_figures())
      row.push_back(human_count(number((*m.converge).*f.value)));
    row.push_back(human_ms(unrepaired_ms(*m.converge, c.now_ns)));
    table.row(row);
  }
  return table.empty() ? "" : "\n" + table.text();
}

std::string amount(uint32_t used, uint32_t total, uint64_t unit) {
  return human_bytes(number(used * unit)) + " of " + human_bytes(number(total * unit));
}

} // namespace

std::string to_text(const Counters &c) {
  return time_line(c) + bytes_table(c) + "\n" + flows_table(c) + "\nover the last " +
         human_ms(c.over_ns / 1'000'000) + ":\n" + rates_table(c) + reasons_table(c) +
         converge_table(c) + "\nstore: " + amount(c.chunks_used, c.chunks, DP_CHUNK) +
         " used   shadow ports: " + human_count(c.ports - c.ports_free) + " of " +
         human_count(c.ports) + " used\n";
}

std::string by_port_text(const Counters &c) {
  std::vector<MappingCounters> all = c.mappings;
  std::stable_sort(all.begin(), all.end(), [](const MappingCounters &a, const MappingCounters &b) {
    return first_port(a) < first_port(b);
  });
  Table table = bytes_columns({"PORT", "MAPPING", "TARGET"});
  std::string text;
  for (const MappingCounters &m : all) {
    for (const TargetCounters &t : m.targets)
      add_bytes(table, {m.ports, m.name, t.target}, t.sum);
    if (m.ports.find('-') != std::string::npos)
      text += "\nmapping " + m.name + " has one row for its ports " + m.ports +
              "; with \"by_port\": true in the configuration each has its own\n";
  }
  return time_line(c) + table.text() + text;
}

std::string in_one_line(const MappingCounters &mapping) {
  dp_ledger sum{};
  for (const TargetCounters &t : mapping.targets)
    add(&sum, t.sum);
  const auto amounts = [](const __u64 *values, const Reason *names, size_t n) {
    std::string text;
    for (size_t i = 0; i < n; i++)
      if (values[i] != 0)
        text += (text.empty() ? " (" : ", ") + std::string(names[i].name) + " " +
                std::to_string(values[i]);
    return text + (text.empty() ? "" : ")");
  };
  return std::to_string(sum.observed) + " bytes observed, " + std::to_string(sum.delivered) +
         " delivered, " + std::to_string(sum_of(sum.lost)) + " lost" +
         amounts(sum.lost, lost_reasons, DP_LOST_N) + ", " + std::to_string(sum_of(sum.excluded)) +
         " excluded" + amounts(sum.excluded, excluded_reasons, DP_EXCLUDED_N);
}

std::string to_text(const std::vector<NamedMapping> &mappings) {
  std::vector<std::string> headings = {"MAPPING",  "DEVICE", "DIRECTION",
                                       "PROTOCOL", "PORTS",  "TARGETS"};
  const bool listed = std::any_of(mappings.begin(), mappings.end(),
                                  [](const NamedMapping &m) { return m.clients.is_set(); });
  if (listed)
    headings.push_back("CLIENTS");
  Table table(headings);
  for (const NamedMapping &m : mappings) {
    std::string targets;
    for (const std::string &t : m.targets)
      targets += (targets.empty() ? "" : ", ") + t;
    std::vector<std::string> row = {m.name,     m.device_list(), m.direction,
                                    m.protocol, m.service(),     targets};
    if (listed)
      row.push_back(clients_text(m.clients));
    table.row(row);
  }
  return table.text();
}

std::string to_text(const std::vector<ProbeRow> &probe) {
  Table table({"FEATURE", "FOUND", "NEEDED", "DETAIL"});
  for (const ProbeRow &p : probe)
    table.row({p.feature, !p.tried ? "?" : p.ok ? "yes" : "no", p.needed ? "yes" : "no", p.detail});
  return table.text() + "\n" +
         (is_able(probe) ? "this host can mirror\n" : "this host cannot mirror\n");
}

std::string to_text(const DetachReport &r) {
  if (!r.was_attached)
    return "nothing was attached\n";
  return "detached: " + human_count(r.closed) + " shadows closed, " + human_count(r.reset) +
         " reset\n\n" + (r.ledger ? to_text(r.last) : "there was no ledger that could be read\n");
}

std::string owed_text(uint32_t shadows) {
  return human_count(shadows) + (shadows == 1 ? " shadow was" : " shadows were") +
         " reset while the target owed answers: it may not have done all that it had acknowledged, "
         "which counts as delivered";
}

Errors shortfalls(const DetachReport &r) {
  Errors errors;
  if (r.lost)
    errors.push_back(
        {"doppel detach",
         human_bytes(static_cast<int64_t>(r.lost)) +
             " of what was captured are lost: the target had not acknowledged them at the end",
         "the target lacks them (doppel verify finds the keys of a memcached); a longer --drain "
         "waits longer for a target that is slow"});
  if (r.owed)
    errors.push_back({"doppel detach", owed_text(r.owed),
                      "compare the target with the source (doppel verify does that of memcacheds); "
                      "a longer --drain waits for its answers"});
  return errors;
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
