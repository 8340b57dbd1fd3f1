// SPDX-License-Identifier: Apache-2.0
// What every walk over keys does: read items in batches, without a trace on them, and not faster
// than it was told to.
//
//     auto list = TRY(list_keys(source));
//     ListReader reader(list.file.get(), list.start);
//     Batch batch;
//     for (DumpLine line; reader.next(line);)
//       if (!batch.add(line)) { TRY(read_items({{&source, take}}, batch.keys())); ... }
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "userspace/memcached/connection.h"
#include "userspace/memcached/features.h"
#include "userspace/memcached/meta.h"
#include "userspace/util/error.h"

namespace doppel::migrate {

// Keys that are read with one request. Bounded in keys and in bytes of what they hold, as a server
// keeps all answers that nobody has read yet.
class Batch {
public:
  static constexpr size_t kMostKeys = 4096;
  static constexpr uint64_t kMostBytes = 8 << 20;
  // Begins small and doubles, so that the first item that must not be read stops the walk early.
  static constexpr size_t kFirstKeys = 1;

  // What takes longer on its way is halved, and not doubled again from a quarter of that on: what a
  // server tells of an item is of the moment when it answers.
  static constexpr uint64_t kSlowNs = 1'000'000'000;

  explicit Batch(size_t most_keys = kMostKeys)
      : most_(most_keys), limit_(std::min(kFirstKeys, most_keys)) {}
  // False: it is full, nothing was added. The first key is always taken. `size`: of the item.
  bool add(std::string key, uint64_t size);
  const std::vector<std::string> &keys() const { return keys_; }
  bool empty() const { return keys_.empty(); }
  void clear(uint64_t took_ns = 0); // so long its answers were under way

private:
  size_t most_, limit_;
  uint64_t most_bytes_ = kMostBytes;
  uint64_t bytes_ = 0;
  std::vector<std::string> keys_;
};

// One key as one server has it. Views are valid during the call that got it.
struct Seen {
  enum class State { absent, present, unreadable } state = State::absent;
  memcached::MetaFlags meta; // of present: c, f, t; W, X, Z
  std::string_view value;    // of present
};
using TakeSeen = std::function<void(size_t index, const Seen &)>;

// A server, and who hears what it has, in the order of the keys.
struct Reading {
  memcached::Connection *connection = nullptr;
  TakeSeen take;
};

// The items of these keys, of several servers at the same moment. `mg` with u: neither the LRU nor
// `fetch` nor `la` change; the server counts gets. unreadable: no line of text can name the key, or
// the server cannot read it. A hit on an item that its application marked as stale answers W once,
// and so takes the token to renew it from that application: the caller stops then.
Status read_items(const std::vector<Reading> &readings, const std::vector<std::string> &keys);

// What such a server knows; an error where it cannot be read without a trace.
Result<memcached::Features> readable(memcached::Connection &c);
// For who finds Seen::meta.W on a server that is in use.
Error token_error(const memcached::Connection &c);

// How items stand: `me`, which leaves no trace at all. Nothing: absent, or not to be named. A key
// that is not plain is asked for by `mg` with u, as read_items() does: see Standing::won.
using TakeStanding = std::function<void(size_t index, const memcached::Standing *)>;
Status read_standings(memcached::Connection &c, const std::vector<std::string> &keys,
                      const TakeStanding &take);

// Keeps connections alive that nobody needs for a while: a server may close what is quiet (-o
// idle_timeout, 1 s at least).
class KeepAlive {
public:
  explicit KeepAlive(std::vector<memcached::Connection *> all) : all_(std::move(all)) {}
  Status look(); // as often as it likes
  // Comes back at that time (CLOCK_MONOTONIC), or when `stop` is true.
  Status rest(uint64_t until_ns, const std::atomic<bool> *stop = nullptr);

private:
  std::vector<memcached::Connection *> all_;
  uint64_t next_ns_ = 0;
};

// Keeps a walk at so many keys a second.
class Pace {
public:
  explicit Pace(uint64_t keys_per_s); // 0: as fast as it goes
  // Comes back when so many keys more may be read.
  void wait(uint64_t keys);
  // Batches this large make no bursts that are worth the name.
  size_t most_keys() const;

private:
  uint64_t keys_per_s_;
  uint64_t next_ns_ = 0;
};

} // namespace doppel::migrate
