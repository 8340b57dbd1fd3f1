// SPDX-License-Identifier: Apache-2.0
// The list of what `doppel ready` asks, and the limits that a user sets. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "userspace/util/error.h"

namespace doppel::migrate {

enum class CriterionOf { mirror, row, pair };
enum class CriterionUnit { share, bytes, ms, count };

struct Criterion {
  const char *name;
  CriterionOf of;
  CriterionUnit unit;
  bool at_least;   // else at most
  double standard; // of its unit
  const char *help, *remedy;
};
const std::vector<Criterion> &all_criteria(); // in their order

// By name: those that are not as the list has them.
using CriterionLimits = std::map<std::string, double>;

// Each is NAME=VALUE: a share from 0 to 1 or as "98%", bytes as "64KiB", a time as "250ms", or a
// whole number. Every error at once, with Exit::usage.
Result<CriterionLimits> parse_limits(const std::vector<std::string> &texts);

double limit_of(const CriterionLimits &limits, const Criterion &criterion);

// For people: "98.00 %", "64.0 KiB", "250 ms", "1,000".
std::string figure_text(CriterionUnit unit, double value);

// The table of docs/ready.md.
std::string criteria_markdown();

} // namespace doppel::migrate
