// SPDX-License-Identifier: Apache-2.0
// How many reads of the hottest keys found nothing. Answers are not captured, so the source is
// asked at the end of an interval, by `me`, which leaves no trace. A key that is not plain is not
// asked for: that takes `mg` (read_standings()), which takes the token of an item that is marked as
// stale from its client. A server that is reached by several addresses or ports has rows for each,
// and tells by its process ID that it is one: a write by any of them is one to the key.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "userspace/memcached/access.h"
#include "userspace/memcached/connection.h"
#include "userspace/migrate/key_heat.h"

namespace doppel::migrate {

class KeyMisses {
public:
  // What is asked for has to be there for a screen to be drawn, and capture stops where nobody goes
  // on for some seconds: an answer has kPatienceMs, and once so long has passed no more are asked.
  explicit KeyMisses(memcached::Access access);

  // Sets KeyRow::misses of the hottest rows. Those of a source that cannot be asked have none, and
  // neither have keys that are not plain.
  void look(KeyModel &model);

  static constexpr uint32_t kPatienceMs = 500;

private:
  struct Source {
    std::unique_ptr<memcached::Connection> connection;
    std::string process;   // its ID; empty: not known
    bool is_asked = false; // of keys in the model that is looked at
    uint64_t again_ns = 0; // not before that, after a failure
  };
  using Rows = std::vector<KeyRow *>;
  using BySource = std::map<std::string, Rows>;
  void each_in_time(const BySource &by_source,
                    void (KeyMisses::*what)(const std::string &, const Rows &));
  void connect(const std::string &text, const Rows &rows);
  bool may_be_one_server(const KeyRow &a, const KeyRow &b) const;
  KeyRow with_all_writes(const KeyRow &row) const;
  void ask(const std::string &source, const Rows &rows);

  memcached::Access access_;
  std::map<std::string, Source> sources_; // by address and port
  // The rows of one model to whose keys somebody wrote, by key.
  std::unordered_multimap<std::string_view, const KeyRow *> written_;
};

// Of reads in an interval in which nothing else was done to the key, all found it or none. Nothing:
// it came or went meanwhile. Pure.
std::optional<uint64_t> misses_of(const KeyRow &row, bool is_there);

} // namespace doppel::migrate
