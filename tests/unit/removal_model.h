// SPDX-License-Identifier: Apache-2.0
// A model checker of warm --delete-extra beside a mirror, for one key: KeyRemoval of warm_policy.h
// through every order in which things may happen (tests/unit/mirror_model.h).
//
// Beside the target there is one that nobody removes from. What is judged in the end: where that
// one is right, the target is, too, unless the key is known to be back: then it is repaired
// (tests/unit/warm_model.h).
#pragma once

#include <vector>

#include "tests/unit/mirror_model.h"
#include "tests/unit/warm_model.h"

namespace doppel::migrate::model {

struct RemovalWorld {
  unsigned connections = 1;
  unsigned ops = 4;
  std::vector<Op> alphabet = {}; // empty: all
  Method method = {};            // its drains, settles, confirms, and looks_twice
};

struct RemovalFound {
  uint64_t states = 0;
  uint64_t removed = 0;  // ends in which the key was removed
  uint64_t kept = 0;     // ends in which it was not
  uint64_t returned = 0; // ends in which it has to be repaired
  uint64_t spoiled = 0;  // removals of what the source was about to have
  bool wrong = false;
  std::string trace;
};

RemovalFound explore(const RemovalWorld &world);

} // namespace doppel::migrate::model
