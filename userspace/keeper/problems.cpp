// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/problems.h"

#include <algorithm>
#include <iterator>

namespace doppel {
namespace {
std::vector<std::string> missing_in(const std::set<std::string> &b,
                                    const std::set<std::string> &a) {
  std::vector<std::string> missing;
  std::set_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(missing));
  return missing;
}

} // namespace

std::vector<std::string> as_sentences(const Errors &errors) {
  std::vector<std::string> list;
  for (const Error &e : errors)
    list.push_back(e.where.empty() ? e.what : e.where + ": " + e.what);
  return list;
}

// Two checks may find the same: it is told once, and is over when neither finds it.
Problems::News Problems::found(const std::string &check,
                               const std::vector<std::string> &sentences) {
  const auto before = all();
  by_check_[check] = {sentences.begin(), sentences.end()};
  const auto now = all();
  return {missing_in(before, now), missing_in(now, before)};
}

bool Problems::any_of(const std::string &check) const {
  const auto found = by_check_.find(check);
  return found != by_check_.end() && !found->second.empty();
}

std::set<std::string> Problems::all() const {
  std::set<std::string> all;
  for (const auto &[check, sentences] : by_check_)
    all.insert(sentences.begin(), sentences.end());
  return all;
}

} // namespace doppel
