// SPDX-License-Identifier: Apache-2.0
// The figures of `doppel top` as JSON and as lines, which the screen shows as well. Pure.
#pragma once

#include <string>
#include <vector>

#include "userspace/migrate/top_model.h"
#include "userspace/view/render.h"

namespace doppel::migrate {

// The mirror's part is to_json(Counters) with "bits_s", "segments_s" and "lag_ms" for each target.
Json to_json(const TopModel &model);
std::string json_text(const TopModel &model, bool one_line = false);

enum class TopPart { both, mirror, servers };

struct TopLook {
  TopPart part = TopPart::both;
  bool unicode = true;
  size_t sparkline = 40; // characters
};

struct TopLine {
  enum class Kind { plain, title, heading, alarm } kind = Kind::plain;
  std::string text; // without a line break
};
std::vector<TopLine> top_lines(const TopModel &model, const TopLook &look);
std::string to_text(const TopModel &model, const TopLook &look);

// What the key h shows.
std::vector<TopLine> top_help();

// "12.5 kbit/s"; "-": not known.
std::string bits_text(const std::optional<double> &bits_s);
// A table's lines, the first of which is its heading, and an empty one. `alarms`: of the rows.
void add_table(std::vector<TopLine> &lines, const std::string &table,
               const std::vector<bool> &alarms);

// The first `columns` characters of UTF-8 text.
std::string cut(const std::string &text, size_t columns);

} // namespace doppel::migrate
