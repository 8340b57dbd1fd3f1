// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/problems.h"

namespace doppel {
std::vector<std::string> as_sentences(const Errors &errors) {
  std::vector<std::string> list;
  for (const Error &e : errors)
    list.push_back(e.where.empty() ? e.what : e.where + ": " + e.what);
  return list;
}

// Two checks may find the same: it is told once, or again as it gets graver, and is over when
// neither finds it.
Problems::News Problems::found(const std::string &check, std::vector<Problem> problems,
                               std::time_t now) {
  for (Problem &p : problems) {
    const auto told = told_.find(p.id());
    if (!p.since)
      p.since = told == told_.end() ? now : told->second.since;
  }
  by_check_[check] = std::move(problems);
  News news;
  std::map<std::string, Told> lasting;
  for (const Problem &p : all()) {
    const auto told = told_.find(p.id());
    const bool fresh = told == told_.end() || told->second.grade < p.grade;
    if (fresh)
      news.begun.push_back(p.what);
    lasting[p.id()] = fresh ? Told{p.what, p.since, p.grade} : told->second;
  }
  for (const auto &[id, told] : told_)
    if (!lasting.count(id))
      news.over.push_back(told.what);
  told_ = std::move(lasting);
  return news;
}

bool Problems::any_of(const std::string &check) const {
  const auto found = by_check_.find(check);
  return found != by_check_.end() && !found->second.empty();
}

std::vector<Problem> Problems::of(const std::string &check) const {
  const auto found = by_check_.find(check);
  return found == by_check_.end() ? std::vector<Problem>{} : found->second;
}

std::vector<Problem> Problems::all() const {
  std::vector<Problem> all;
  for (const auto &[check, problems] : by_check_)
    all.insert(all.end(), problems.begin(), problems.end());
  return in_order(std::move(all));
}

std::vector<Problem> as_problems(ProblemKind kind, const std::vector<std::string> &sentences) {
  std::vector<Problem> problems;
  problems.reserve(sentences.size());
  for (const std::string &sentence : sentences)
    problems.push_back({kind, sentence, help_of(kind).hint, 0, {}});
  return problems;
}

} // namespace doppel
