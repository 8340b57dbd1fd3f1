// SPDX-License-Identifier: Apache-2.0
// Whether two memcacheds go together, before anything starts: what was found of them, and the
// judgement. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/memcached/features.h"
#include "userspace/memcached/stats.h"
#include "userspace/view/render.h"

namespace doppel::migrate {

struct ServerFacts {
  std::string name; // as memcached::Server::text()
  memcached::Stats general, settings, items, slabs;
  memcached::Features features;
  int64_t ahead_s = 0; // its clock beside that of this host
  bool here = true;    // it is on this host
};

enum class PairLevel { ok, warn, fail };

struct PairRow {
  PairLevel level = PairLevel::ok;
  std::string about;  // "item size", "memory"
  std::string what;   // what was found, a sentence without full stop
  std::string remedy; // what to do; empty: nothing
};

std::vector<PairRow> judge_pair(const ServerFacts &source, const ServerFacts &target);

// Nothing is to be done.
bool is_fine(const std::vector<PairRow> &rows);

Json to_json(const std::vector<PairRow> &rows); // {"fine": ..., "rows": [...]}
std::string json_text(const std::vector<PairRow> &rows, bool one_line = false);
std::string to_text(const std::vector<PairRow> &rows);

} // namespace doppel::migrate
