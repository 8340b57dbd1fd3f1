// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/top_render.h"

#include <cmath>
#include <cstdio>

#include "userspace/migrate/sparkline.h"
#include "userspace/util/text.h"
#include "userspace/view/table.h"

namespace doppel::migrate {
namespace {
using Kind = TopLine::Kind;

int64_t whole(double value) { return std::llround(value); }

std::string format(const char *f, double value) {
  char text[32];
  std::snprintf(text, sizeof(text), f, value);
  return text;
}

std::string count_text(const std::optional<double> &value) {
  return value ? human_count(whole(*value)) : "-";
}

std::string cell(const TopColumn &c, const std::optional<double> &value) {
  if (!value)
    return "-";
  switch (c.kind) {
  case TopKind::share:
    return format("%.1f %%", *value * 100);
  case TopKind::bytes:
    return human_bytes(whole(*value));
  case TopKind::time_us:
    return format("%.3f ms", *value / 1000);
  case TopKind::count:
    break;
  }
  return human_count(whole(*value));
}

std::vector<std::string> cells(std::string first, std::string side, std::string mapping,
                               const TopFigures &figures, std::string last = {}) {
  std::vector<std::string> row = {std::move(first), std::move(side), std::move(mapping)};
  for (const TopColumn &c : top_columns())
    if (*c.heading)
      row.push_back(cell(c, figures.*c.value));
  row.push_back(std::move(last));
  return row;
}

// "target_timeout 3 B, store_full 2 B"
std::string lost_text(const dp_ledger &l) {
  std::string text;
  for (const Reason &r : lost_reasons)
    if (l.lost[r.number])
      text += (text.empty() ? "" : ", ") + std::string(r.name) + " " +
              human_bytes(static_cast<int64_t>(l.lost[r.number]));
  return text;
}

void add_mirror(const TopModel &model, std::vector<TopLine> &lines) {
  if (!model.counters) {
    lines.push_back({Kind::plain, "mirror: " + model.mirror_absent});
    lines.push_back({});
    return;
  }
  Table table({"MAPPING", "TARGET", ">OBSERVED", ">SEGMENTS/s", ">FLOWS", ">COMPLETE", ">IN FLIGHT",
               ">LAG", ">RESENT", ">LOST", "LOST BY"});
  std::vector<bool> alarms;
  for (const TopRow &r : rows_of(model)) {
    table.row({r.mapping, r.target, bits_text(r.bits_s), count_text(r.segments_s),
               human_count(r.sum.open), r.share ? human_share(*r.share) : "-",
               human_bytes(r.sum.in_flight),
               r.lag_ms ? human_ms(static_cast<uint64_t>(*r.lag_ms)) : "-",
               human_count(static_cast<int64_t>(r.sum.resent)),
               human_bytes(static_cast<int64_t>(sum_of(r.sum.lost))), lost_text(r.sum)});
    alarms.push_back(sum_of(r.sum.lost) > 0);
  }
  add_table(lines, table.text(), alarms);
}

struct ServerTable {
  Table table;
  std::vector<bool> alarms;
  void row(std::vector<std::string> cells, bool alarm = false) {
    table.row(std::move(cells));
    alarms.push_back(alarm);
  }
  void server(const TopServer &s) {
    row(cells(s.server, s.side, s.mapping, figures_of(s), s.away), !s.away.empty());
  }
};

std::vector<std::string> server_headings() {
  std::vector<std::string> headings = {"INSTANCE", "SIDE", "MAPPING"};
  for (const TopColumn &c : top_columns())
    if (*c.heading)
      headings.push_back(std::string(">") + c.heading);
  headings.emplace_back(""); // why a server is away
  return headings;
}

void add_sums(const TopModel &model, ServerTable &rows) {
  for (const std::string side : {"source", "target", ""}) {
    const auto servers = of_side(model, side);
    if (servers.size() < 2)
      continue;
    rows.row(cells("AVERAGE", side, "", average_of(servers)));
    rows.row(cells("TOTAL", side, "", total_of(servers)));
  }
  const auto sources = of_side(model, "source"), targets = of_side(model, "target");
  if (model.pairs.size() > 1)
    rows.row(cells("DIFFERENCE", "", "", difference(total_of(sources), total_of(targets))));
}

void add_servers(const TopModel &model, std::vector<TopLine> &lines) {
  if (model.servers.empty())
    return;
  ServerTable rows{Table(server_headings()), {}};
  std::vector<bool> shown(model.servers.size());
  for (const TopPair &p : model.pairs) {
    for (const size_t i : {p.source, p.target}) {
      if (!shown[i])
        rows.server(model.servers[i]);
      shown[i] = true;
    }
    rows.row(cells(
        "  difference", "", p.mapping,
        difference(figures_of(model.servers[p.source]), figures_of(model.servers[p.target]))));
  }
  for (size_t i = 0; i < shown.size(); i++)
    if (!shown[i])
      rows.server(model.servers[i]);
  add_sums(model, rows);
  add_table(lines, rows.table.text(), rows.alarms);
}

void add_warmth(const TopModel &model, const TopLook &look, std::vector<TopLine> &lines) {
  for (const TopPair &p : model.pairs) {
    std::string share = "no gets";
    if (!p.warmth.empty() && p.warmth.back())
      share = human_share(*p.warmth.back());
    lines.push_back({Kind::plain, "warmth " + model.servers[p.target].server + "  " + share + "  " +
                                      sparkline(p.warmth, look.sparkline, look.unicode)});
  }
}

} // namespace

std::string bits_text(const std::optional<double> &bits_s) {
  if (!bits_s)
    return "-";
  double value = *bits_s;
  const char *unit = "bit/s";
  for (const char *next : {"kbit/s", "Mbit/s", "Gbit/s"}) {
    if (value < 1000)
      break;
    value /= 1000;
    unit = next;
  }
  return format(value < 100 ? "%.1f " : "%.0f ", value) + unit;
}

void add_table(std::vector<TopLine> &lines, const std::string &table,
               const std::vector<bool> &alarms) {
  size_t at = 0;
  for (size_t row = 0; at < table.size(); row++) {
    const size_t end = table.find('\n', at);
    const bool alarm = row > 0 && row <= alarms.size() && alarms[row - 1];
    const Kind kind = row == 0 ? Kind::heading : alarm ? Kind::alarm : Kind::plain;
    lines.push_back({kind, table.substr(at, end - at)});
    at = end + 1;
  }
  lines.push_back({});
}

std::string cut(const std::string &text, size_t columns) {
  size_t seen = 0;
  for (size_t i = 0; i < text.size(); i++)
    if ((text[i] & 0xc0) != 0x80 && seen++ == columns)
      return text.substr(0, i);
  return text;
}

std::vector<TopLine> top_lines(const TopModel &model, const TopLook &look) {
  std::string title = "doppel top  " + iso_time(model.now);
  if (model.interval_s > 0)
    title += "  over " + format("%.1f s", model.interval_s);
  std::vector<TopLine> lines = {{Kind::title, title}, {}};
  if (look.part != TopPart::servers)
    add_mirror(model, lines);
  if (look.part != TopPart::mirror) {
    add_servers(model, lines);
    add_warmth(model, look, lines);
  }
  return lines;
}

std::string to_text(const TopModel &model, const TopLook &look) {
  std::string text;
  for (const TopLine &line : top_lines(model, look))
    text += line.text + "\n";
  return text;
}

std::vector<TopLine> top_help() {
  std::vector<TopLine> lines = {
      {Kind::title, "doppel top: keys"},
      {},
      {Kind::plain, "q      quit"},
      {Kind::plain, "space  pause, and go on"},
      {Kind::plain, "m      mirror and servers, mirror alone, servers alone"},
      {Kind::plain, "k      the keys that requests name most, and back"},
      {Kind::plain, "c s b n  there: by calls, size, bit rate, name"},
      {Kind::plain, "h      this page, and back"},
      {Kind::plain, "arrows where there are more rows than the screen has"},
      {}};
  for (const TopColumn &c : top_columns())
    if (*c.heading) {
      std::string heading = c.heading;
      heading.resize(9, ' ');
      lines.push_back({Kind::plain, heading + c.help});
    }
  return lines;
}

} // namespace doppel::migrate
