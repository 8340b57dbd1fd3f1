// SPDX-License-Identifier: Apache-2.0
// The list of a server's keys: lru_crawler metadump.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "userspace/memcached/connection.h"
#include "userspace/util/error.h"

namespace doppel::memcached {

// "key=K exp=N la=N cas=N fetch=yes|no cls=N size=N", perhaps with more behind.
struct DumpLine {
  std::string key;  // raw: %XX is decoded
  int64_t exp = -1; // Unix time by the server's clock; -1: never
  uint64_t la = 0;  // Unix time of the last access
  uint64_t cas = 0;
  bool fetch = false; // was read since it was stored
  uint32_t cls = 0;
  uint32_t size = 0; // of the whole item, not of its value
};
std::optional<DumpLine> parse_dump_line(std::string_view line);

// Writes the lines of the dump to `fd`, each ended by \n, at the server's speed: as long as it
// runs, the server's hash table does not grow, and its crawler does nothing else. By `hash`, which
// misses none; by `all` where the server does not know that. Waits first for a hash table that
// grows, for Access::timeout_ms at most. `keys` counts the lines. Errors tell: busy, disabled,
// growing, closed. What was written before an error stays written.
Status dump_keys(Connection &c, int fd, uint64_t &keys);

} // namespace doppel::memcached
