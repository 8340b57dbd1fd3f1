// SPDX-License-Identifier: Apache-2.0
// A model checker of warm beside a mirror, for one key. It plays the classes of warm_policy.h
// against a source, a target and a mirror, through every order in which things may happen, and
// looks at what the target holds in the end.
//
// Beside what clients do (tests/unit/mirror_model.h), warm dies at any step. What it has sent to
// the target may still arrive, until the next one has waited.
//
// Let states be equal where all that matters is, and each is looked at once.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/mirror_model.h"
#include "userspace/migrate/warm_policy.h"

namespace doppel::migrate::model {

// What the real method does and a naive one leaves out.
struct Method {
  bool drains = true;
  bool settles = true;
  bool confirms = true;
  bool sees_ends = true;   // a look tells when the item ends
  bool keeps_ends = true;  // false: what has a time to live is stored without
  bool compares = true;    // false: what changed after our store is left
  bool awaits = true;      // after a crash, what the dead one sent
  bool unsettled = true;   // after a crash, its copies are known as unconfirmed
  bool copies_cas = false; // `E`
  bool looks_twice = true; // a removal; false: at once
};

struct World {
  unsigned connections = 1;
  unsigned ops = 4;
  unsigned crashes = 0;
  std::vector<Op> alphabet = {}; // empty: all
  bool repair = false;           // the target holds something else in the beginning
  Method method = {};
};

struct State : Mirror {
  Item in_flight; // an add that a dead warm has sent
  Item taken;     // what warm has read
  uint8_t crashes = 0;
  bool repairing = false;
  KeyCopy copy{false};
  KeyRepair repair;
};

struct Found {
  uint64_t states = 0;
  uint64_t ends = 0; // of these, in which all was over
  std::set<Outcome> outcomes;
  uint64_t lacking = 0; // of the ends, in which the source has it and the target has not
  bool wrong = false;
  std::string trace; // how the first wrong end came about
};

// All that can happen in that world, or up to the first wrong end.
Found explore(const World &world);

} // namespace doppel::migrate::model
