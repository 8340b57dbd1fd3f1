// SPDX-License-Identifier: Apache-2.0
// A model checker of warm beside a mirror, for one key. It plays the classes of warm_policy.h
// against a source, a target and a mirror, through every order in which things may happen, and
// looks at what the target holds in the end.
//
// What may happen:
// * Clients' commands, on one connection or two. The source executes a connection's commands in
//   order, the target gets their copies in order, late at will; between connections in any order. A
//   command may be at the target first: capture sees it before the source has executed it.
// * A command is captured the moment before the first of the two has it. What is captured earlier
//   only makes warm wait longer.
// * Items expire, on both at once. (Clocks that differ, and what a mirrored touch then finds, are
//   the mirror's limit: docs/warm.md.)
// * Warm dies at any step. What it has sent to the target may still arrive, until the next one has
//   waited.
//
// Let states be equal where all that matters is, and each is looked at once.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/key_model.h"
#include "userspace/migrate/warm_policy.h"

namespace doppel::migrate::model {

// What the real method does and a naive one leaves out.
struct Method {
  bool drains = true;
  bool settles = true;
  bool confirms = true;
  bool sees_ends = true;   // a look tells when the item ends
  bool keeps_ends = true;  // false: what has a time to live is stored without
  bool drops = true;       // false: what changed after our store is left
  bool awaits = true;      // after a crash, what the dead one sent
  bool unsettled = true;   // after a crash, its copies are known as unconfirmed
  bool copies_cas = false; // `E`
};

struct World {
  unsigned connections = 1;
  unsigned ops = 4;
  unsigned crashes = 0;
  std::vector<Op> alphabet = {}; // empty: all
  bool repair = false;           // the target holds something else in the beginning
  Method method = {};
};

struct Connection {
  uint8_t pending = 0;
  uint8_t at_target = 0;  // these are at the target already, and not executed; else the other way
  uint8_t owed = 0;       // to the drain: copies that have to be at the target
  uint8_t unexecuted = 0; // to the settle: commands that the source has to execute
  std::array<Pending, kMaxOps> queue{};
};

struct State {
  Item source, target;
  Item in_flight; // an add that a dead warm has sent
  Item taken;     // what warm has read
  std::array<Connection, 2> connection{};
  uint8_t ops = 0; // so far, expiry included
  uint8_t next_ends = 1, next_rank = 1;
  uint8_t expired = 0; // bit n: items of that time to live are gone
  uint8_t crashes = 0;
  bool inverted = false; // the target had two commands in another order than the source
  bool excused = false;  // a cas after the last look failed at the target
  bool repairing = false;
  uint32_t next_source_cas = 1, next_target_cas = 1;
  KeyCopy copy{false};
  KeyRepair repair;
};

struct Found {
  uint64_t states = 0;
  uint64_t ends = 0; // of these, in which all was over
  std::set<Outcome> outcomes;
  bool wrong = false;
  std::string trace; // how the first wrong end came about
};

// All that can happen in that world, or up to the first wrong end.
Found explore(const World &world);

} // namespace doppel::migrate::model
