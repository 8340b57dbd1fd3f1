// SPDX-License-Identifier: Apache-2.0
// What `doppel top` shows: screen, lines and JSON are made of this and nothing else. Pure.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "userspace/migrate/pair.h"
#include "userspace/migrate/server_sample.h"
#include "userspace/view/snapshot.h"

namespace doppel::migrate {

// Figures of one server, or of several together. Nothing: not known.
struct TopFigures {
#define DP_TOP_COLUMN(name, heading, kind, help) std::optional<double> name;
#include "userspace/migrate/top_columns.def"
};

enum class TopKind { share, count, bytes, time_us };
struct TopColumn {
  const char *name; // in JSON
  const char *heading;
  TopKind kind;
  const char *help;
  std::optional<double> TopFigures::*value;
};
const std::vector<TopColumn> &top_columns(); // those without a heading are in JSON alone

struct TopServer {
  std::string server;  // as memcached::Server::text()
  std::string side;    // "source" or "target"; empty: neither
  std::string mapping; // empty: none
  std::string away;    // why it has no figures; empty: it has
  std::optional<ServerSample> now;
  std::optional<ServerWindow> window; // nothing: its first sample, or it was started anew
};

struct TopPair {
  std::string mapping;
  size_t source = 0, target = 0;             // indices of TopModel::servers
  std::vector<std::optional<double>> warmth; // interval by interval, the last one last
};

// A mapping and target of the mirror.
struct TopRow {
  std::string mapping, target;
  dp_ledger sum{};
  std::optional<double> bits_s, segments_s; // observed; requests sent to the target the first time
  std::optional<double> share;              // COMPLETE, as `doppel counters` has it
  std::optional<double> lag_ms;
};

struct TopModel {
  std::time_t now = 0;
  double interval_s = 0;            // between this look and the last; 0: this is the first
  std::string mirror_absent;        // why there are no counters; empty: there are
  std::optional<Counters> counters; // of the mirror
  std::vector<TopServer> servers;
  std::vector<TopPair> pairs;
};

std::vector<TopRow> rows_of(const TopModel &model);

TopFigures figures_of(const TopServer &server);
// Of those that have figures. A ratio of the sum is that of the sums; a time has no sum.
TopFigures total_of(const std::vector<const TopServer *> &servers);
// A ratio of the average is that of the sums as well.
TopFigures average_of(const std::vector<const TopServer *> &servers);
// `b` - `a`, of each column that both know.
TopFigures difference(const TopFigures &a, const TopFigures &b);

// Those of that side.
std::vector<const TopServer *> of_side(const TopModel &model, const std::string &side);

// Of the interval: see warmth().
std::optional<double> warmth_of(const TopServer &source, const TopServer &target);

} // namespace doppel::migrate
