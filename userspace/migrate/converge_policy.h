// SPDX-License-Identifier: Apache-2.0
// What is done with a key that a request may have made differ (capture's key notes), step by step.
// Pure: the worker plays it against two servers, the model checker against all that may happen to
// them.
//
// The target is made to have what the source has, whatever that is, and the source is looked at
// once more when every request that was on its way is done. What came meanwhile begins it anew. A
// write of ours never replaces what it has not seen: it names the CAS of the target's item.
//
// What is equal is looked at once more, too. A request that no note tells of may be at the target
// and not yet at the source, and what it stored there may be gone again: A and B delete, B stores,
// and the target has A's delete last. The source has none before B's store, and so has the target.
#pragma once

#include <cstdint>

#include "userspace/migrate/warm_policy.h"

namespace doppel::migrate {

class KeyConvergence {
public:
  enum class Act : uint8_t {
    read,    // at the source: value and Look
    drain,   // until all that capture had observed when the read ended is done at the target
    compare, // at the target: is what it has what was read?
    add,     // at the target, only if it is not there
    replace, // at the target, only if it still has target_cas()
    remove,  // likewise
    settle,  // until settle after the write, or after the comparison that found it equal
    confirm, // at the source: a Look that leaves no trace
    done,
  };
  enum class End : uint8_t {
    open,
    equal,
    repaired, // added, or replaced
    deleted,
    unreadable, // the source's application has marked it as stale, or a server refuses to answer
    refused,    // the target has no room for it, or takes no item of that size
  };

  Act act() const { return act_; }
  End ended() const { return end_; }
  const Look &seen() const { return seen_; }          // at the read
  uint64_t target_cas() const { return target_cas_; } // of the comparison
  // The last comparison found it equal, whatever the confirmation says.
  bool was_equal() const { return found_ == End::equal; }

  void read(const Look &look);
  void drained() { act_ = Act::compare; }
  void compared(const Compared &target);
  void stored(Stored answer);
  void removed(Deleted answer);
  void settled() { act_ = Act::confirm; }
  void confirmed(const Look &look);
  void again() { act_ = Act::read; }
  void end(End end);

private:
  Look seen_;
  uint64_t target_cas_ = 0;
  Act act_ = Act::read;
  End end_ = End::open;
  End found_ = End::open; // its end, once that is confirmed
};

} // namespace doppel::migrate
