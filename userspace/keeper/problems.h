// SPDX-License-Identifier: Apache-2.0
// The problems that were told and still last, by the check that found them. Pure.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "userspace/util/error.h"

namespace doppel {

// Each as "WHERE: WHAT", without the hint.
std::vector<std::string> as_sentences(const Errors &errors);

class Problems {
public:
  struct News {
    std::vector<std::string> begun, over; // sentences
    bool empty() const { return begun.empty() && over.empty(); }
  };

  // Takes note of all that one check has found now. What the same check found before and finds no
  // longer is over; a check that was not made says nothing, so what it found before lasts.
  News found(const std::string &check, const std::vector<std::string> &sentences);

  // Whether that check found something, the last time that it was made.
  bool any_of(const std::string &check) const;
  std::set<std::string> all() const;

private:
  std::map<std::string, std::set<std::string>> by_check_;
};

} // namespace doppel
