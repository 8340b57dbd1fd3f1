// SPDX-License-Identifier: Apache-2.0
#include "userspace/view/problem.h"

#include <algorithm>

namespace doppel {
const std::vector<ProblemHelp> &all_problems() {
  static const std::vector<ProblemHelp> list = {
#define DP_PROBLEM(name, exit, help, hint) {ProblemKind::name, #name, Exit::exit, help, hint},
#include "doppel/problems.def"
  };
  return list;
}

const ProblemHelp &help_of(ProblemKind kind) { return all_problems()[static_cast<size_t>(kind)]; }

ProblemKind problem_kind(const std::string &name) {
  for (const ProblemHelp &p : all_problems())
    if (name == p.name)
      return p.kind;
  return ProblemKind::note;
}

std::vector<Problem> in_order(std::vector<Problem> problems) {
  std::stable_sort(problems.begin(), problems.end(),
                   [](const Problem &a, const Problem &b) { return a.kind < b.kind; });
  std::vector<Problem> list;
  for (Problem &p : problems) {
    const auto same = std::find_if(list.begin(), list.end(),
                                   [&](const Problem &other) { return other.id() == p.id(); });
    if (same == list.end())
      list.push_back(std::move(p));
    else if (p.since && (!same->since || p.since < same->since))
      same->since = p.since;
  }
  return list;
}

Exit exit_of(const std::vector<Problem> &in_order) {
  return in_order.empty() ? Exit::ok : help_of(in_order.front().kind).exit;
}

} // namespace doppel
