// SPDX-License-Identifier: Apache-2.0
// The problems that were told and still last, by the check that found them. Pure.
#pragma once

#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "userspace/util/error.h"
#include "userspace/view/problem.h"

namespace doppel {

// Each as "WHERE: WHAT", without the hint.
std::vector<std::string> as_sentences(const Errors &errors);

class Problems {
public:
  struct News {
    std::vector<std::string> begun, over; // sentences; what is over as it was told
    bool empty() const { return begun.empty() && over.empty(); }
  };

  // Takes note of all that one check has found now. What the same check found before and finds no
  // longer is over; a check that was not made says nothing, so what it found before lasts. `now`:
  // Unix time, since when a problem lasts that does not tell.
  News found(const std::string &check, std::vector<Problem> problems, std::time_t now = 0);

  // Whether that check found something, the last time that it was made.
  bool any_of(const std::string &check) const;
  // What it found then.
  std::vector<Problem> of(const std::string &check) const;
  // In order.
  std::vector<Problem> all() const;

private:
  struct Told {
    std::string what;
    std::time_t since;
    int grade;
  };
  std::map<std::string, std::vector<Problem>> by_check_;
  std::map<std::string, Told> told_; // by id
};

// Sentences as problems of one kind.
std::vector<Problem> as_problems(ProblemKind kind, const std::vector<std::string> &sentences);

} // namespace doppel
