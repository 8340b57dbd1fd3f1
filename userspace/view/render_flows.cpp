// SPDX-License-Identifier: Apache-2.0
// Rows are rendered while they are printed: as text, or as JSON, they would take several times the
// memory that they take here.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "userspace/view/flow_list.h"
#include "userspace/view/render.h"
#include "userspace/view/table.h"

namespace doppel {
namespace {
std::string count(uint64_t n) { return human_count(static_cast<int64_t>(n)); }

std::string or_dash(const std::string &text) { return text.empty() ? "-" : text; }

std::string heading_of(FlowUnit unit, const char *heading) {
  return (unit == FlowUnit::text ? "" : ">") + std::string(heading);
}

std::vector<std::string> headings() {
  std::vector<std::string> list;
  for (const FlowColumn &c : flow_columns())
    if (*c.heading)
      list.push_back(heading_of(c.unit, c.heading));
  return list;
}

std::vector<std::string> cells_of(const FlowRow &f) {
  std::vector<std::string> cells;
  for (const FlowColumn &c : flow_columns()) {
    if (!*c.heading)
      continue;
    cells.push_back(c.value ? human(c.unit, c.value(f)) : or_dash(c.shown(f)));
    if (f.joined && c.name == std::string("state"))
      cells.back() += " (joined)";
  }
  return cells;
}

void print_rows(std::ostream &out, const std::vector<FlowRow> &rows) {
  Columns columns(headings());
  for (const FlowRow &f : rows)
    columns.widen(cells_of(f));
  out << columns.heading();
  for (const FlowRow &f : rows)
    out << columns.line(cells_of(f));
}

std::string sums_table(std::vector<std::string> headings, const std::vector<FlowGroup> &groups) {
  for (const FlowSumColumn &c : flow_sum_columns())
    headings.push_back(heading_of(c.unit, c.heading));
  Table table(headings);
  for (const FlowGroup &g : groups) {
    std::vector<std::string> cells;
    for (const std::string &name : g.names)
      cells.push_back(or_dash(name));
    for (const FlowSumColumn &c : flow_sum_columns())
      cells.push_back(human(c.unit, g.sum.*c.value));
    table.row(cells);
  }
  return table.text();
}

void print_summary(std::ostream &out, const FlowList &list) {
  const FlowSummary &s = list.summary();
  out << sums_table({""}, {{{"total"}, s.total}}) << "\n"
      << sums_table({"STATE", "REASON"}, s.states) << "\n"
      << sums_table({"MAPPING", "TARGET"}, s.targets) << "\n"
      << sums_table({"CLIENT"}, s.clients);
  if (s.more_clients > 0)
    out << "more clients: " << count(s.more_clients) << "; --limit "
        << s.clients.size() + s.more_clients << " shows all\n";
}

Json name_or_null(const std::string &text) { return text.empty() ? Json(nullptr) : Json(text); }

// Keys in the order of the contract.
Json flow_json(const FlowRow &f) {
  return {{"mapping", f.mapping},
          {"client", f.client.text()},
          {"server", f.server.text()},
          {"target", f.target.text()},
          {"copy", f.copy},
          {"shadow", name_or_null(f.shadow.text())},
          {"state", f.state},
          {"reason", name_or_null(f.reason)},
          {"joined", f.joined},
          {"observed", f.observed},
          {"delivered", f.delivered},
          {"in_flight", f.in_flight},
          {"waiting_to_send", f.waiting_to_send},
          {"window", f.window},
          {"cwnd", f.cwnd},
          {"ssthresh", f.ssthresh},
          {"resent", f.resent},
          {"rto_ms", f.rto_ms},
          {"srtt_us", f.srtt_us},
          {"age_ms", f.age_ms},
          {"idle_ms", f.idle_ms}};
}

Json sum_json(const FlowSum &sum) {
  Json j = Json::object();
  for (const FlowSumColumn &c : flow_sum_columns())
    j[c.name] = sum.*c.value;
  return j;
}

Json groups_json(const std::vector<const char *> &keys, const std::vector<FlowGroup> &groups) {
  Json list = Json::array();
  for (const FlowGroup &g : groups) {
    Json j = Json::object();
    for (size_t i = 0; i < keys.size(); i++)
      j[keys[i]] = name_or_null(g.names[i]);
    j.update(sum_json(g.sum));
    list.push_back(std::move(j));
  }
  return list;
}

Json summary_json(const FlowSummary &s) {
  return {{"total", sum_json(s.total)},
          {"states", groups_json({"state", "reason"}, s.states)},
          {"targets", groups_json({"mapping", "target"}, s.targets)},
          {"clients", groups_json({"client"}, s.clients)},
          {"more_clients", s.more_clients}};
}

std::string one_line(const FlowRow &f) {
  std::string text = dump(flow_json(f), true);
  text.pop_back(); // the end of the line
  return text;
}

} // namespace

void print_text(std::ostream &out, const FlowList &list) {
  if (list.matching() == 0) {
    out << (list.in_all() == 0 ? "no flows" : "none of " + count(list.in_all()) + " flows matches")
        << "\n";
    return;
  }
  if (list.query().summary)
    print_summary(out, list);
  else
    print_rows(out, list.rows());
  if (list.more() > 0)
    out << count(list.more()) << " more: without --limit all " << count(list.matching())
        << " are shown\n";
  if (list.matching() < list.in_all())
    out << count(list.matching()) << " of " << count(list.in_all()) << " flows match\n";
}

void print_json(std::ostream &out, const FlowList &list) {
  if (list.query().summary) {
    out << dump({{"summary", summary_json(list.summary())},
                 {"matching", list.matching()},
                 {"in_all", list.in_all()}});
    return;
  }
  out << "{\n  \"flows\": [";
  const char *between = "\n    ";
  for (const FlowRow &f : list.rows()) {
    out << between << one_line(f);
    between = ",\n    ";
  }
  out << (list.rows().empty() ? "" : "\n  ") << "],\n  \"more\": " << list.more()
      << ",\n  \"matching\": " << list.matching() << ",\n  \"in_all\": " << list.in_all()
      << "\n}\n";
}

} // namespace doppel
