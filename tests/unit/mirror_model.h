// SPDX-License-Identifier: Apache-2.0
// One key of a source and a target with a mirror between them, and all that clients may do to it.
// The model checkers of warm and of its removals play beside it.
//
// * Clients' commands, on one connection or two. The source executes a connection's commands in
//   order, the target gets their copies in order, late at will; between connections in any order. A
//   command may be at the target first: capture sees it before the source has executed it.
// * A command is captured the moment before the first of the two has it. What is captured earlier
//   only makes us wait longer.
// * Items expire, on both at once. (Clocks that differ, and what a mirrored touch then finds, are
//   the mirror's limit: docs/warm.md.)
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include "tests/unit/key_model.h"

namespace doppel::migrate::model {

struct Connection {
  uint8_t pending = 0;
  uint8_t at_target = 0;  // these are at the target already, and not executed; else the other way
  uint8_t owed = 0;       // to the drain: copies that have to be at the target
  uint8_t unexecuted = 0; // to the settle: commands that the source has to execute
  std::array<Pending, kMaxOps> queue{};
};

struct Mirror {
  Item source, target;
  std::array<Connection, 2> connection{};
  uint8_t ops = 0; // so far, expiry included
  uint8_t next_rank = 1;
  uint8_t expired = 0;   // bit n: items of that time to live are gone
  bool inverted = false; // the target had two commands in another order than the source
  bool excused = false;  // a cas after the last look failed at the target
  bool over = false;     // nothing of ours goes on
  uint32_t next_source_cas = 1, next_target_cas = 1;

  bool is_pending() const { return connection[0].pending || connection[1].pending; }
  // Of a read: what has to be at the target before the drain is done. And whether it is.
  void owe_copies();
  bool is_drained() const { return !connection[0].owed && !connection[1].owed; }
  // Of a settle: what the source has to execute before it is over. And whether it has.
  void owe_executions();
  bool is_settled() const { return !connection[0].unexecuted && !connection[1].unexecuted; }
  void owe_nothing();

  // The other of the two gets the connection's oldest command. What the target got is returned, and
  // is there until the next one; nullptr: it was the source.
  const Pending *deliver(unsigned c);
  // A new one, at the source first, or at the target first. False, nullptr: not in this state.
  bool execute_new(unsigned c, Op op);
  const Pending *capture_new(unsigned c, Op op);
  // Both items of that time to live are gone.
  void expire(uint8_t ends);
  bool may_expire(const Item &item) const {
    return item.there && item.ends && !(expired >> item.ends & 1);
  }

private:
  Pending made(Op op);
  void execute(unsigned c, Pending p, bool captured_before);
  void apply(const Pending &p);
  Pending delivered_;
};

// What matters of a state, so that states which only differ in names are one: of times to live only
// which are the same.
class StateKey {
public:
  explicit StateKey(const Mirror &mirror) : mirror_(mirror) {}
  void put(unsigned v); // its lower 16 bits
  unsigned name(uint8_t ends);
  // What is pending. `token`: beside the servers' which one matters; `values`: whether they do.
  void put_connections(uint16_t token, bool values);
  std::string text() const { return {bytes_.data(), length_}; }

private:
  const Mirror &mirror_;
  std::array<char, 256> bytes_; // a std::string would take half of the time of all
  size_t length_ = 0;
  std::array<uint8_t, 16> names_{};
  uint8_t next_name_ = 1;
};

// What was looked at, by 128 bits of a hash: two of 10^8 states are the same by chance in one of
// 10^22 runs, and a state takes 16 bytes.
class Seen {
public:
  bool insert(std::string key); // false: it was there

private:
  struct Name {
    uint64_t a, b;
    bool operator==(const Name &) const = default;
  };
  struct Hash {
    size_t operator()(const Name &n) const { return n.a; }
  };
  std::unordered_set<Name, Hash> names_;
};

// Each kind of command if the alphabet is empty.
std::vector<Op> kinds_of(const std::vector<Op> &alphabet);

} // namespace doppel::migrate::model
