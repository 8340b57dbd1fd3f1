// SPDX-License-Identifier: Apache-2.0
// What warm says to the two servers, and what their answers mean. Answers come in the order of the
// requests; where a request can carry an opaque, its answer is held against it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "userspace/memcached/answers.h"
#include "userspace/memcached/connection.h"
#include "userspace/memcached/features.h"
#include "userspace/memcached/stats.h"
#include "userspace/migrate/warm_policy.h"

namespace doppel::migrate {

// Seconds of our own clock since the process began to warm.
class WarmClock {
public:
  // `target`: its general statistics, fetched just now.
  explicit WarmClock(const memcached::Stats &target);
  int32_t now() const;
  // When an item ends of which so much remains; the last time that a store can name for what ends
  // later.
  int32_t end_of(int64_t left) const;
  // What a store must say so that the item ends `left` seconds from now: a time of the target's
  // clock, so that it does not matter how long the store is on its way. memcached takes numbers
  // above 30 days for one.
  int64_t end_for(int64_t left) const;

private:
  uint64_t start_ns_;
  int64_t target_time_; // Unix time, at start_ns_
};

// From the moment at which the target's own clock moves on, which is waited for, a second at most:
// it tells whole seconds, and what is left out of one would be a second of each item's life.
Result<WarmClock> clock_of(memcached::Connection &target);

// An item as the source answered it.
struct ReadItem {
  Look look;
  std::string_view value;
  uint64_t flags = 0;
  int64_t ttl = -1; // remaining, s; -1: none
  bool won = false; // the answer took the token of an item that is marked as stale
  bool stale = false;
  bool failed = false; // an error in place of an answer
  // The CAS of what stands in for an item that a client fills: `look` says that none is there.
  std::optional<uint64_t> claimed = {};
};

// What of it is kept until it is stored.
struct KeptItem {
  std::string value;
  uint64_t flags = 0;
  int64_t ttl = -1;     // remaining, s, when it was read; -1: none
  uint64_t read_ns = 0; // CLOCK_MONOTONIC
};
KeptItem kept(const ReadItem &item);

// What the target has of a key, beside what was read at the source.
Compared compared(const Look &seen, const KeptItem &reading, const ReadItem &target,
                  int32_t slack = kEndSlack);

// Each request_… adds a line; false: no line can name the key.
bool request_read(std::string &to, std::string_view key, uint32_t opaque);
// The item without its value; counts as a get that hits.
bool request_peek(std::string &to, std::string_view key, uint32_t opaque);
// The same without a trace: memcached's `me`. Its answer fits no other than a plain key
// (memcached::is_plain_key): 1.6.18 may write others as they are, line feeds included.
bool request_look(std::string &to, std::string_view key);
// With `cas` only if it has that one.
bool request_delete(std::string &to, std::string_view key, uint64_t cas);

struct StoreRequest {
  std::string_view key, value;
  uint64_t flags = 0;
  int64_t ends = 0;        // as end_for() says; 0: never
  uint64_t compare = 0;    // the target's CAS to replace; 0: add
  uint64_t source_cas = 0; // to be the copy's; 0: the target chooses
  uint32_t opaque = 0;
};
bool request_store(std::string &to, const StoreRequest &store);

// The copy of what was read, which has lived on since. Not of what has less than a second left:
// memcached takes a time of 0 for "for ever".
StoreRequest store_of(std::string_view key, const KeptItem &reading, const WarmClock &clock);

// Nothing: that is no answer to it.
std::optional<ReadItem> read_answer(const memcached::Answer &answer, uint32_t opaque,
                                    const WarmClock &clock);

struct LookAnswer {
  Look look;
  bool failed = false;
  // Whether `exp` had a sign that tells "one second" from "never": 1.6.18 writes what remains as a
  // negative number, so that -1 is both.
  bool signed_right = false, signed_wrong = false;
};
std::optional<LookAnswer> look_answer(const memcached::Answer &answer, std::string_view key,
                                      const WarmClock &clock);

struct StoreAnswer {
  Stored stored = Stored::failed;
  uint64_t cas = 0;
  bool out_of_memory = false;
};
std::optional<StoreAnswer> store_answer(const memcached::Answer &answer, uint32_t opaque);
std::optional<Deleted> delete_answer(const memcached::Answer &answer);

} // namespace doppel::migrate
