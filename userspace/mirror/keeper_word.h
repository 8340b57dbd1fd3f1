// SPDX-License-Identifier: Apache-2.0
// What a keeper leaves in the data plane for whoever asks how the mirror is: that it has it in its
// care, and what it finds. JSON in the map `keeper`, which it alone writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "userspace/kernel/pins.h"
#include "userspace/view/problem.h"
#include "userspace/view/vitals.h"

namespace doppel {

struct KeeperWord {
  long pid = 0;           // 0: no keeper has the mirror in its care
  std::time_t since = 0;  // when it took it, Unix time, seconds
  uint64_t said_ns = 0;   // when it gave this word, CLOCK_MONOTONIC
  uint64_t looked_ns = 0; // when it last saw how the mirror fares, likewise; 0: it has not yet
  std::vector<Problem> problems;
  std::map<std::string, uint64_t> lost; // bytes within the last minute, by target_key()
  std::map<std::string, Tried> tried;   // as Vitals::tried
  bool shortened = false;               // there is more than had room
};

// The word as text. What does not fit into `room` bytes is left out, the least important first:
// what was tried, what was lost, and of the problems what is least grave.
std::string text_of(const KeeperWord &word, size_t room);
// The reverse. Throws std::exception on anything unexpected.
KeeperWord keeper_word_of(const std::string &text);

// The map that it is left in. Who holds it open needs neither a descriptor nor a pin for a word,
// and can say why there is none.
struct KeeperWordMap {
  Fd fd;           // empty: it is not open
  size_t size = 0; // bytes of the value
};
Result<KeeperWordMap> open_keeper_word(const Pins &pins);

// A default word takes the last one back: from then on nobody misses the keeper.
Status write_keeper_word(const KeeperWordMap &map, const KeeperWord &word);
Result<KeeperWord> read_keeper_word(const Pins &pins);

} // namespace doppel
