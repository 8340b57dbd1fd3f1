// SPDX-License-Identifier: Apache-2.0
// What warm does with one key, step by step, and what each answer leads to. Pure: the command plays
// it against two servers, the model checker (tests/unit/warm_model.h) against all that may happen
// to them, so that the proof is about this code.
//
//     KeyCopy key(false);
//     while (key.step() != Step::done) the step, and the answer to it
#pragma once

#include <cstdint>

namespace doppel::migrate {

inline constexpr int32_t kNever = INT32_MAX; // an item without a time to live

// How far two looks at one item may be apart in when it ends, s: each server rounds to whole
// seconds, and so does the answer's way. The same slack as verify has.
inline constexpr int32_t kEndSlack = 2;

// Tries before a key that is written to all the time is left to the mirror. Where a mapping
// converges such a key gets to the target by that, which the next try finds: three are not enough
// where both servers are slow.
inline constexpr uint8_t kTries = 3, kTriesConverging = 60;

// The source's item as one look found it.
struct Look {
  bool there = false;
  uint64_t cas = 0;
  uint32_t size = 0;     // of the value, bytes; 0xffffffff: this look did not tell
  int32_t ends = kNever; // s of our own clock
};

inline constexpr uint32_t kSizeUnknown = UINT32_MAX;

// Looks at a key whose copy was changed at the target, settle apart, before it is given up.
inline constexpr uint8_t kLooks = 10;

// No write came between the two, as far as looks can tell. A touch keeps the CAS, so that the end
// counts. A client that sets CAS itself (`E`, memcached 1.6.27) may repeat one: the size counts.
bool is_same(const Look &a, const Look &b, int32_t slack = kEndSlack);
// The same, but for when it ends: all that came between were touches.
bool is_same_value(const Look &a, const Look &b);

enum class Step : uint8_t {
  await,   // until what a warm that died has sent is done: settle, and all that it sent is there
  drop,    // at the target: delete it, whatever it is
  read,    // at the source: value and Look
  drain,   // until all that capture had observed when the read ended is done at the target
  add,     // at the target, only if it is not there
  settle,  // until settle after the store
  confirm, // at the source: a Look that leaves no trace
  undo,    // at the target: delete it if it still has the CAS that our store returned
  compare, // repair only, at the target: is what it has what was read?
  replace, // repair only, at the target: only if it still has the CAS of the comparison
  done,
};

enum class Outcome : uint8_t {
  open,
  added,
  present,    // the target has it: what the mirror brought is newer; of a repair: it is equal
  gone,       // the source has it no more, or for less than a second
  undone,     // it changed meanwhile, each time: the target has none of ours
  contested,  // a KeyRepair has to follow: clients changed our copy at the target, or touched it
  stale,      // marked as stale at the source: nobody's to copy
  too_large,  // for the target
  wide_flags, // the target does not keep such client flags
  failed,     // the target could not store it
  repaired,
  moving, // repair: written to between the looks, so that a difference would say nothing
  absent, // repair: the target lost it meanwhile, so that a KeyCopy has to follow
};

enum class Stored : uint8_t { stored, there, changed, absent, too_large, failed };
enum class Deleted : uint8_t { deleted, absent, changed };

// What to do with a copy that something else has changed at the target: a mirrored write, which is
// newer, or a mirrored incr, append or touch, which made something of our copy that the source may
// never have had.
enum class IfChanged : uint8_t {
  compare, // with the source, as a repair does it
  drop,    // without CAS: nobody can tell what is newer
  leave,   // who converges was told, and may have repaired it already; nobody would look again
};

// Copies a key that the target may lack. `unsettled`: a warm that died may have stored it and not
// confirmed it.
class KeyCopy {
public:
  explicit KeyCopy(bool unsettled, uint8_t tries = 0)
      : step_(unsettled ? Step::await : Step::read), tries_(tries) {}
  Step step() const { return step_; }
  Outcome outcome() const { return outcome_; }
  const Look &seen() const { return seen_; } // at the read
  uint64_t stored_cas() const { return stored_cas_; }
  uint8_t tries() const { return tries_; }

  void awaited() { step_ = Step::drop; }
  void dropped() { again(kTries); }
  void read(const Look &look);
  void end(Outcome outcome); // for a reason that only the caller knows
  void read_again() { step_ = Step::read; }
  void drained() { step_ = Step::add; }
  void added(Stored answer, uint64_t cas);
  void settled() { step_ = Step::confirm; }
  void confirmed(const Look &look, IfChanged how);
  void undone(Deleted answer, IfChanged how);

private:
  void again(uint8_t tries);

  Look seen_;
  uint64_t stored_cas_ = 0;
  Step step_;
  Outcome outcome_ = Outcome::open;
  uint8_t tries_ = 0;
  bool stored_ = false; // in this try
};

// What the target has of a key, beside what was read at the source.
struct Compared {
  bool there = false;
  uint64_t cas = 0;
  bool equal = false; // value, client flags and end
};

// Replaces what differs at the target, if two looks that are settle apart say so and nothing moved
// between them.
//
// Of a contested copy it looks until the source has been quiet for that long: what the target has
// is equal then, or it is replaced. It deletes what the target has only by the CAS of a look, so
// that a mirrored write which came later stays.
class KeyRepair {
public:
  KeyRepair() = default;
  // Of a copy that is contested, and has taken so many tries.
  explicit KeyRepair(uint8_t tries) : tries_(tries), contested_(true) {}
  Step step() const { return step_; }
  Outcome outcome() const { return outcome_; }
  const Look &seen() const { return seen_; }
  uint64_t target_cas() const { return target_cas_; } // for Step::replace
  uint64_t stored_cas() const { return stored_cas_; }
  uint64_t undo_cas() const { return stored_ ? stored_cas_ : target_cas_; } // for Step::undo
  bool is_second() const { return second_; }                                // of the two looks
  bool is_contested() const { return contested_; }
  bool is_to_confirm() const { return stored_ || equal_; } // behind Step::settle; else read
  uint8_t tries() const { return tries_; }
  // All that matters of it beside looks and CAS values, for who compares states.
  unsigned bits() const {
    return static_cast<unsigned>(second_ | stored_ << 1 | contested_ << 2 | equal_ << 3 |
                                 given_up_ << 4 | tries_ << 5);
  }

  void read(const Look &look);
  void end(Outcome outcome);
  void drained() { step_ = Step::compare; }
  void compared(const Compared &target);
  void replaced(Stored answer, uint64_t cas);
  void settled() { step_ = is_to_confirm() ? Step::confirm : Step::read; }
  void confirmed(const Look &look, IfChanged how);
  void undone(Deleted answer, IfChanged how);

private:
  void look_again();
  void differs(uint64_t cas);

  Look seen_;
  uint64_t target_cas_ = 0, stored_cas_ = 0;
  Step step_ = Step::read;
  Outcome outcome_ = Outcome::open;
  uint8_t tries_ = 0;
  bool second_ = false, stored_ = false;
  bool contested_ = false;
  bool equal_ = false;    // contested: it was, at the last look
  bool given_up_ = false; // contested: too many looks
};

// Deletes what the source does not have, if two looks that are settle apart say so. An eviction at
// the source and a delete that was lost look the same. Behind the delete both are looked at once
// more: of what came to the source meanwhile, copies may have met the delete in another order.
class KeyRemoval {
public:
  Step step() const { return step_; }
  bool removed() const { return removed_ != 0; }
  unsigned times() const { return removed_; } // that it was
  // It is at the source again, or comes to the target again and again: it has to be repaired.
  bool returned() const { return returned_; }
  bool is_second() const { return second_; }          // of the two looks
  uint64_t target_cas() const { return target_cas_; } // for Step::undo

  void read(const Look &source);
  void drained() { step_ = Step::compare; }
  void compared(const Compared &target);
  void settled() { step_ = Step::read; }
  void undone(Deleted answer);

private:
  uint64_t target_cas_ = 0;
  Step step_ = Step::read;
  uint8_t removed_ = 0; // so many times
  bool second_ = false, returned_ = false;
};

} // namespace doppel::migrate
