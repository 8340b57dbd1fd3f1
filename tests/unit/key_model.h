// SPDX-License-Identifier: Apache-2.0
// What commands do to one key of two servers, the source and the target of a mirror. The model
// checkers of warm and of converge share it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace doppel::migrate::model {

enum class Op : uint8_t {
  set,
  set_ttl, // a time to live of its own
  add,
  replace,
  del,
  incr,
  append,
  touch, // another time to live
  cas,   // with the source's token of that moment
  flush,
  count
};

inline constexpr uint8_t kMaxOps = 6;

struct Item {
  uint8_t there = 0;
  uint8_t ends = 0;   // which time to live: 0 none, else a number of its own
  uint8_t warm = 0;   // it was made by us, and perhaps changed since by the mirror
  uint8_t exact = 0;  // it is what we stored
  uint16_t value = 0; // a hash of how it came to be
  uint16_t token = 0; // the source's CAS that it was copied with
  uint32_t cas = 0;
};

// A command that one of the two has, and the other has not.
struct Pending {
  uint8_t op = 0;
  uint8_t number = 0; // of the command, for values of its own
  uint8_t rank = 0;   // of executed ones: in which order
  uint8_t late = 0;   // cas: executed with success after warm had looked for the last time
  uint16_t token = 0; // cas
};

const char *name_of(uint8_t op);

// Whether the command does anything to that item.
bool executes(const Item &item, const Pending &p, bool at_source);

// What the command makes of it. `expired`: bit n: items of that time to live are gone.
void change(Item &item, const Pending &p, uint32_t &next_cas, uint8_t expired, bool at_source);

// How a state came about: what happened, and by which command.
using Path = std::vector<std::pair<const char *, const char *>>;
std::string text_of(const Path &path); // a line each

} // namespace doppel::migrate::model
