// SPDX-License-Identifier: Apache-2.0
// What a verify has found.
#pragma once

#include <cstdint>
#include <utility>

namespace doppel::migrate {

// Each key of the list counts once, in one of these but the first two.
struct VerifyCounts {
  uint64_t keys = 0;     // of the source's list, with the prefix
  uint64_t compared = 0; // what a verdict was found for: equal, missing, different, flags, ttl
  uint64_t equal = 0;
  uint64_t missing = 0, different = 0, flags = 0, ttl = 0;
  uint64_t extra = 0;       // only on the target
  uint64_t moving = 0;      // changed between the looks
  uint64_t gone = 0;        // from the source, since its list was made
  uint64_t stale = 0;       // marked so by its application
  uint64_t unreadable = 0;  // its name fits in no line of text, or a server answered with an error
  uint64_t target_keys = 0; // of the target's list, that the source was asked for
  uint64_t unseen = 0;      // of a sample: keys of the source that were not chosen
  double seconds = 0;
  uint64_t differing() const { return missing + different + flags + ttl + extra; }
  // What a share of equal ones is of: nobody knows of an unreadable one that it is equal.
  uint64_t judged() const { return compared + unreadable; }
  // The keys that those stand for: what was not chosen, and what has no verdict, may differ.
  uint64_t population() const { return judged() + moving + unseen; }
};

// All of them but `unseen` and `seconds`, by their names in JSON.
constexpr std::pair<const char *, uint64_t VerifyCounts::*> kVerifyCounts[] = {
    {"keys", &VerifyCounts::keys},
    {"compared", &VerifyCounts::compared},
    {"equal", &VerifyCounts::equal},
    {"missing", &VerifyCounts::missing},
    {"different", &VerifyCounts::different},
    {"flags", &VerifyCounts::flags},
    {"ttl", &VerifyCounts::ttl},
    {"extra", &VerifyCounts::extra},
    {"moving", &VerifyCounts::moving},
    {"unreadable", &VerifyCounts::unreadable},
    {"gone", &VerifyCounts::gone},
    {"stale", &VerifyCounts::stale},
};

} // namespace doppel::migrate
