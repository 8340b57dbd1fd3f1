// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "userspace/migrate/ready.h"
#include "userspace/util/text.h"
#include "userspace/view/table.h"
#include "userspace/view/vitals.h"

namespace doppel::migrate {
namespace {
Json number_json(CriterionUnit unit, double value) {
  return unit == CriterionUnit::share ? Json(value) : Json(std::llround(value));
}

Json finding_json(const Finding &f) {
  const Criterion &c = *f.criterion;
  return {{"name", c.name},
          {"subject", f.subject.empty() ? Json(nullptr) : Json(f.subject)},
          {"value", f.value ? number_json(c.unit, *f.value) : Json(nullptr)},
          {"limit", number_json(c.unit, f.limit)},
          {"bound", c.at_least ? "least" : "most"},
          {"ok", f.ok},
          {"reason", f.reason.empty() ? Json(nullptr) : Json(f.reason)},
          {"do", f.remedy.empty() ? Json(nullptr) : Json(f.remedy)}};
}

std::string first_line(const Readiness &r) {
  if (is_ready(r.findings))
    return "ready";
  size_t bad = 0;
  for (const Finding &f : r.findings)
    bad += f.ok ? 0 : 1;
  std::string text = "not ready: " + std::to_string(bad) + " of " +
                     std::to_string(r.findings.size()) + " criteria are not met";
  if (r.ready_in_s)
    text += "; at this pace in " + human_ms(*r.ready_in_s * 1000);
  return text;
}

// "  lost_bytes, excluded_bytes: what to do", each remedy once.
std::string hints_of(const std::vector<Finding> &findings) {
  std::vector<std::pair<std::string, std::vector<std::string>>> hints; // remedy, criteria
  for (const Finding &f : findings) {
    if (f.remedy.empty())
      continue;
    auto hint = std::find_if(hints.begin(), hints.end(),
                             [&](const auto &h) { return h.first == f.remedy; });
    if (hint == hints.end())
      hint = hints.insert(hints.end(), {f.remedy, {}});
    if (hint->second.empty() || hint->second.back() != f.criterion->name)
      hint->second.emplace_back(f.criterion->name);
  }
  std::string text;
  for (const auto &[remedy, names] : hints)
    text += "  " + joined(names) + ": " + remedy + "\n";
  return text;
}

} // namespace

Json to_json(const Readiness &r) {
  Json criteria = Json::array();
  for (const Finding &f : r.findings)
    criteria.push_back(finding_json(f));
  return {{"ready", is_ready(r.findings)},
          {"criteria", criteria},
          {"ready_in_s", r.ready_in_s ? Json(*r.ready_in_s) : Json(nullptr)},
          {"time", r.now ? Json(iso_time(r.now)) : Json(nullptr)},
          {"window_ms", r.over_ms}};
}

std::string to_text(const Readiness &r) {
  Table table({"", "CRITERION", "OF", ">VALUE", "", ">LIMIT", "WHY"});
  for (const Finding &f : r.findings) {
    const Criterion &c = *f.criterion;
    table.row({f.ok ? "ok" : "NO", c.name, f.subject.empty() ? "mirror" : f.subject,
               f.value ? figure_text(c.unit, *f.value) : "-",
               c.at_least ? ">=" : "<=", figure_text(c.unit, f.limit), f.reason});
  }
  std::string text = first_line(r) + " (window of " + human_ms(r.over_ms) + ")\n\n" + table.text();
  const std::string hints = hints_of(r.findings);
  return hints.empty() ? text : text + "\nwhat to do:\n" + hints;
}

Result<std::map<std::string, Missing>> missing_of(const std::string &text, const std::string &name,
                                                  std::time_t attached) {
  const Error no{name, "is not what doppel counters --json prints",
                 "doppel counters --json > " + name + ", when warm begins", Exit::usage};
  const Json j = Json::parse(text, nullptr, false);
  if (!j.is_object() || !j.contains("mappings") || !j.contains("attached"))
    return no;
  if (j["attached"] != iso_time(attached))
    return Error{name, "is the ledger of another mirror than the one that is attached",
                 "doppel counters --json > " + name + " makes a new one", Exit::usage};
  std::map<std::string, Missing> missing;
  try {
    for (const Json &m : j.at("mappings"))
      for (const Json &t : m.at("targets")) {
        const Json none = Json::object(), converge = m.value("converge", none);
        uint64_t keys = t.at("events").value("key_missed", uint64_t{0});
        if (converge.is_object())
          keys += converge.value("missed", uint64_t{0}) + converge.value("failed", uint64_t{0});
        missing[target_key(m.at("name"), t.at("target"))] = {t.at("missing"), keys,
                                                             m.value("since_ns", uint64_t{0})};
      }
  } catch (const Json::exception &) {
    return no;
  }
  return missing;
}

void count_from(RowWindow &row, const std::map<std::string, Missing> &at_since) {
  const auto then = at_since.find(target_key(row.name.mapping, row.name.target));
  const bool is_of_this = then != at_since.end() && then->second.since_ns == row.since_ns;
  if (row.since_ns && !is_of_this)
    row.since_absent = "a reload made it at " + iso_time(row.since) + ", and what was missing " +
                       "before is not in its ledger";
  if (is_of_this) {
    row.missing_at_since = then->second.bytes;
    row.missed_at_since = then->second.keys;
  }
}

std::string json_text(const Readiness &readiness, bool one_line) {
  return dump(to_json(readiness), one_line);
}

} // namespace doppel::migrate
