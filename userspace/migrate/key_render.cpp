// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/key_render.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "userspace/view/table.h"

namespace doppel::migrate {
namespace {
using Kind = TopLine::Kind;

const char *name_of(KeyOrder order) {
  switch (order) {
  case KeyOrder::calls:
    return "calls";
  case KeyOrder::size:
    return "size";
  case KeyOrder::bps:
    return "bit rate";
  case KeyOrder::key:
    break;
  }
  return "key";
}

std::string mapping_of(const KeyModel &model, const KeyRow &row) {
  const auto name = model.mapping.find(row.mapping);
  return name == model.mapping.end() ? "-" : name->second;
}

std::string counted(uint64_t n) { return human_count(static_cast<int64_t>(n)); }

std::string formatted(const char *format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

// "123 keys of requests in 1.0 s (123/s), one in 4.0 sampled, 5 found no room; by calls"
std::string status_text(const KeyModel &model, KeyOrder order) {
  const dp_key_sampled &s = model.sampled;
  std::string text =
      counted(s.keys) + " keys of requests in " + formatted("%.1f s", model.interval_s);
  if (model.interval_s > 0)
    text +=
        " (" + human_count(std::llround(static_cast<double>(s.keys) / model.interval_s)) + "/s)";
  text += s.told == s.keys ? ", all of them sampled"
                           : ", one in " + formatted("%.1f", model.one_in()) + " sampled";
  if (s.dropped)
    text += ", " + counted(s.dropped) + " found no room";
  if (model.unlisted)
    text += ", " + counted(model.unlisted) + " of keys too cold to list";
  return text + "; by " + name_of(order);
}

Json row_json(const KeyModel &model, const KeyRow &r) {
  return {{"key", shown_key(r.key)},
          {"mapping", mapping_of(model, r)},
          {"server", r.server_text()},
          {"calls", r.calls()},
          {"calls_per_s", r.calls_per_s},
          {"size", r.size ? Json(*r.size) : Json(nullptr)},
          {"bps", r.bps ? Json(*r.bps) : Json(nullptr)},
          {"reads", r.reads},
          {"misses", r.misses ? Json(*r.misses) : Json(nullptr)},
          {"stores", r.stores},
          {"deletes", r.deletes},
          {"others", r.others}};
}

} // namespace

std::string shown_key(const std::string &key) {
  std::string text;
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '\\') {
      text += c;
      continue;
    }
    char hex[8];
    std::snprintf(hex, sizeof(hex), "\\x%02x", byte);
    text += hex;
  }
  return text;
}

std::string key_json(const KeyModel &model, size_t most) {
  Json keys = Json::array();
  for (size_t i = 0; i < model.rows.size() && i < most; i++)
    keys.push_back(row_json(model, model.rows[i]));
  return dump({{"interval_s", model.interval_s},
               {"sampled_one_in", model.one_in()},
               {"requested", model.sampled.keys},
               {"sampled", model.sampled.told},
               {"no_room", model.sampled.dropped},
               {"unlisted", model.unlisted},
               {"keys", keys}},
              true);
}

std::vector<TopLine> key_lines(KeyModel model, KeyOrder order, size_t most) {
  sort_keys(model.rows, order);
  std::vector<TopLine> lines = {{Kind::title, "doppel top keys  " + status_text(model, order)}, {}};
  Table table({"KEY", "MAPPING", "SERVER", ">CALLS", ">CALLS/s", ">SIZE", ">BIT RATE", ">READS",
               ">MISSES", ">STORES", ">DELETES", ">OTHERS"});
  for (size_t i = 0; i < model.rows.size() && i < most; i++) {
    const KeyRow &r = model.rows[i];
    table.row({cut(shown_key(r.key), 60), mapping_of(model, r), r.server_text(), counted(r.calls()),
               formatted("%.1f", r.calls_per_s), r.size ? human_bytes(*r.size) : "-",
               bits_text(r.bps), counted(r.reads), r.misses ? counted(*r.misses) : "-",
               counted(r.stores), counted(r.deletes), counted(r.others)});
  }
  add_table(lines, table.text(), {});
  return lines;
}

std::string key_text(const KeyModel &model, size_t most) {
  std::string text;
  for (const TopLine &line : key_lines(model, KeyOrder::calls, most))
    text += line.text + "\n";
  return text;
}

} // namespace doppel::migrate
