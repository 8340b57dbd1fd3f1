// SPDX-License-Identifier: Apache-2.0
// What a server tells about itself.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "userspace/memcached/connection.h"
#include "userspace/util/error.h"

namespace doppel::memcached {

using Stats = std::map<std::string, std::string>;

// `what`: "" (general), "settings", "items", "slabs", "conns", ...
Result<Stats> stats(Connection &c, const std::string &what = "");

// 0 where it is absent or no whole number.
uint64_t number(const Stats &stats, const std::string &name);

// The largest client flags that a server keeps, by its settings; of larger ones it drops the upper
// half without a word (memcached 1.6.18, safe_strtoul()). Those that do not tell have 32 bits.
uint64_t most_flags(const Stats &settings);

// Items that it has given up for others since its start, or since `stats reset`, which begins the
// count of `memory` anew.
struct Evictions {
  uint64_t memory = 0; // from an LRU, or with a page that went to another slab class
  uint64_t flash = 0;  // with a page of extstore: `evictions` does not count them
  uint64_t all() const { return memory + flash; }
};
Evictions evictions(const Stats &general);
uint64_t evictions_since(const Stats &general, const Evictions &before);

// Bytes of flash that it may take for values (extstore); 0: it has none.
uint64_t flash_limit(const Stats &general);
// Gets that it counts as hits and answers as misses: the page of flash with the value is gone.
uint64_t flash_misses(const Stats &general);

// How often it was flushed (flush_all) since that was `before`: `stats reset` begins it anew.
uint64_t flushes_since(const Stats &general, uint64_t before);

// Seconds until a flush_all with a delay takes effect, after which nothing that is there now can be
// read; 0: none is pending. It is `oldest` of "settings".
uint64_t pending_flush_s(const Stats &general, const Stats &settings);
// Says so of the server, if one is.
Status no_pending_flush(const Connection &c, const Stats &general, const Stats &settings);

} // namespace doppel::memcached
