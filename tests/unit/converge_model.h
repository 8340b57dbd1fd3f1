// SPDX-License-Identifier: Apache-2.0
// A model checker of what lets two servers converge beside a mirror, for one key. It plays the
// class of converge_policy.h against a source, a target, a mirror and capture's notes, through
// every order in which things may happen, and compares the two whenever all is over. It claims,
// too:
// * What is written replaces what was compared, and nothing newer.
// * Where nothing happens, no look begins anew.
//
// What may happen:
// * Clients' commands, on one connection or two. A command is captured, and then the source
//   executes it and the target gets its copy, either of them first, each in the connection's order.
//   Between connections there is no order.
// * Capture notes a command whose outcome depends on what is there, and one of a connection that is
//   not the last that wrote (bpf/keys/races.bpf.h).
// * A noted key rests: its look begins when the source has executed all that was captured up to the
//   note. It is looked at again for what was noted meanwhile, as ConvergeQueue does it. The next
//   look may begin before the one before has confirmed.
// * Items expire, on both at once.
// * Warm copies the key meanwhile, by the class of warm_policy.h, and takes as long as it likes.
// * Who converges dies at any step, or loses a server. What it has sent to the target may still
//   arrive, until the next look begins. One that died has forgotten its keys, and counts them as
//   missed: nothing is claimed of the key until it is noted again.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/key_model.h"
#include "userspace/migrate/converge_policy.h"
#include "userspace/migrate/warm_policy.h"

namespace doppel::migrate::converge_model {

using model::Item;
using model::Op;
using model::Pending;

// What the real method does and a naive one leaves out.
struct Method {
  bool rests = true; // between the note and the look
  bool drains = true;
  bool confirms = true;
  bool confirms_equal = true; // what is equal, too
  bool names_cas = true;      // of the target's item, in what is stored or deleted
  bool awaits = true;         // what one that died has sent
  bool copies_cas = false;    // `E`
  bool warm_knows = true;     // that somebody converges
};

struct World {
  unsigned connections = 2;
  unsigned ops = 3;
  unsigned crashes = 0;
  unsigned looks = 1; // at a time
  bool warms = false;
  std::vector<Op> alphabet = {}; // empty: all that are about one key
  Method method = {};
};

struct Connection {
  uint8_t captured = 0, executed = 0, delivered = 0; // of the queue
  uint8_t last_wrote = 0;
  std::array<uint8_t, 2> unrested{};  // to the rest of the first note and the last: to be executed
  std::array<uint8_t, 2> owed{};      // to the drain of each look: to be at the target
  std::array<uint8_t, 2> unsettled{}; // to the settle of each look: to be executed
  uint8_t warm_owed = 0, warm_unsettled = 0; // likewise to warm's
  std::array<Pending, model::kMaxOps> queue{};
};

// A look at the key and what follows from it.
struct Work {
  KeyConvergence way;
  Item taken;
  uint32_t compared_cas = 0; // of the target's item; 0: it had none
  bool busy = false;
  bool quiet = false; // nothing was pending at the read, and nothing has happened since
};

struct State {
  Item source, target;
  bool warming = false;
  KeyCopy copy{false};
  Item copied; // what warm has read
  Item sent;   // by one who died, or lost the server
  uint64_t sent_cas = 0;
  KeyConvergence::Act sent_act = KeyConvergence::Act::done; // done: nothing
  std::array<Connection, 2> connection{};
  std::array<Work, 2> work{}; // the older first
  uint8_t waiting = 0;        // notes: 1 the first, 2 the last, too
  uint8_t ops = 0;            // so far, expiry included
  uint8_t expired = 0;        // bit n: items of that time to live are gone
  uint8_t crashes = 0;
  bool missed = false; // the key was forgotten, and was not noted since
  uint32_t next_source_cas = 1, next_target_cas = 1;
};

struct Found {
  uint64_t states = 0;
  uint64_t ends = 0; // of these, in which all was over
  std::set<KeyConvergence::End> outcomes;
  std::set<Outcome> warm_outcomes;
  bool wrong = false;
  std::string trace; // how the first wrong end came about
};

// All that can happen in that world, or up to the first wrong end.
Found explore(const World &world);

} // namespace doppel::migrate::converge_model
