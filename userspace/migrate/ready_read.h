// SPDX-License-Identifier: Apache-2.0
// Watches mirror and servers over one window.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "userspace/memcached/access.h"
#include "userspace/migrate/ready.h"
#include "userspace/migrate/server_reader.h"
#include "userspace/mirror/status.h"

namespace doppel::migrate {

struct ReadyWanted {
  std::vector<Pair> pairs;
  std::vector<Unpaired> unpaired;
  std::vector<RowName> rows; // of the mirror
  bool without_mirror = false;
  std::string rows_absent;                 // why there are no rows; empty: there are
  std::map<std::string, Missing> at_since; // see missing_of()
  std::time_t since_attached = 0;          // when the mirror of at_since was attached; 0: none
  memcached::Access access;
};

// The begin or the end of a window.
struct ReadyLook {
  uint64_t at_ns = 0;
  std::string mirror_absent;
  std::optional<Counters> counters;
  struct Server {
    std::string away; // why it said nothing
    ServerSample sample;
    bool began_anew = false; // since the look before, as one in between has shown
  };
  std::vector<Server> sources, targets; // of ReadyWanted::pairs
};
ReadyLook look(const ReadyWanted &wanted);

// Asks the servers again and again within a window: counters that begin anew have soon grown beyond
// what they were.
class ResetWatch {
public:
  ResetWatch(const ReadyWanted &wanted, const ReadyLook &begin);
  // Takes what was answered to the question before, and asks anew. Waits for nobody.
  void look();
  // What it has seen; `end` comes after the last look().
  void note(ReadyLook &end);

private:
  struct Watched {
    ServerWatch watch;
    ServerSample last;
    bool began_anew = false;
  };
  static void take(Watched &watched);
  static void note(std::vector<Watched> &all, std::vector<ReadyLook::Server> &end);
  std::vector<Watched> sources_, targets_;
};

// Pure. `problems` are of its end. What was away at one of the two looks was not watched.
ReadyWindow window_of(const ReadyWanted &wanted, const ReadyLook &begin, const ReadyLook &end,
                      std::vector<Problem> problems);

// Fills in the coverage of the pair: that many keys of the source, chosen by chance, compared with
// the target as `doppel verify` does it. Nothing is read where one of the two was away.
void sample_keys(PairWindow &pair, const memcached::Access &access, uint64_t keys);

// What `doppel status` would tell, where a mirror is seen.
std::vector<Problem> read_problems(const FindKeeper &find_keeper);

} // namespace doppel::migrate
