// SPDX-License-Identifier: Apache-2.0
// Plays KeyConvergence (converge_policy.h) for the noted keys of one source and one target, in a
// thread of its own: a server that is slow or away holds up nobody else.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "userspace/migrate/converge_link.h"
#include "userspace/migrate/converge_policy.h"
#include "userspace/migrate/converge_queue.h"
#include "userspace/migrate/pair.h"
#include "userspace/migrate/stale_keys.h"
#include "userspace/migrate/warm_requests.h"

namespace doppel::migrate {

// What came of the keys of one pair.
struct ConvergeFigures {
  uint64_t waiting = 0;            // keys, those in work as well
  uint64_t oldest_ns = UINT64_MAX; // since when the oldest of them waits; UINT64_MAX: there is none
  uint64_t equal = 0, repaired = 0, deleted = 0, failed = 0, missed = 0;
  uint64_t down_ns = 0; // since when one of the servers cannot be asked; 0: both can
  std::string why_down;
};

class ConvergePair {
public:
  // `stale` outlives it.
  ConvergePair(Pair pair, memcached::Access access, StaleKeys &stale);
  ~ConvergePair(); // ends the thread; what waits is forgotten
  // The thread is to end; until has_ended() the destructor waits for a server, for seconds perhaps.
  void end();
  bool has_ended() const { return ended_; }
  ConvergePair(const ConvergePair &) = delete;
  ConvergePair &operator=(const ConvergePair &) = delete;

  const Pair &pair() const { return pair_; }
  // A request of that moment (CLOCK_MONOTONIC) was about the key. `stale`: it marks it as stale.
  void note(const std::string &key, uint64_t ns, bool stale);
  // The mappings have changed: what has to reach the target is found out anew.
  void renew();
  ConvergeFigures figures() const;

private:
  struct Key {
    NotedKey noted;
    KeyConvergence way;
    KeptItem reading;
    bool claimed = false; // by a client that fills it: `me` shows an item
  };
  struct Batch {
    std::vector<Key> keys;
    uint64_t mark = 0;     // of the barrier
    uint64_t since_ns = 0; // of the read, or of the write
  };
  void run();
  void rest(uint64_t until_ns);
  Status link();
  Status turn(uint64_t now);
  Status begin_batch(uint64_t now);
  Status read(std::vector<Key> &keys);
  bool take_read(Key &key, uint32_t n, const memcached::Answer &answer, size_t &bytes);
  Status write_batch(Batch batch);
  Status compare(std::vector<Key> &keys);
  void check(Key &key) const;
  Status store(std::vector<Key> &keys);
  Status remove(std::vector<Key> &keys);
  Status confirm_batch(Batch batch);
  Status ask_servers();
  void heard(uint64_t &answered_ns);
  void leave_stale_ones(std::vector<Key> &keys);
  Status confirm(std::vector<Key> &keys, bool by_me);
  bool is_confirmed_by_me(const Key &key) const;
  void sort_out(std::vector<Key> keys, Batch *settling);
  void works_again();
  void begin_anew();
  void give_up_link(const Errors &errors);
  uint64_t next_batch_ns() const;
  uint64_t next_ns() const;

  const Pair pair_;
  const memcached::Access access_;
  StaleKeys &stale_;

  // The thread's own.
  std::optional<ConvergeLink> link_;
  uint64_t begin_ns_ = 0;                                    // no key is looked at before that
  uint64_t began_ns_ = 0;                                    // the last batch
  uint64_t asked_ns_ = 0;                                    // both servers whether they answer
  uint64_t source_answered_ns_ = 0, target_answered_ns_ = 0; // the last time; 0: never
  std::string source_is_, target_is_,
      told_;                             // which process each was; what was logged of the servers
  std::deque<Batch> drained_, settling_; // the oldest first
  size_t most_ = 1;                      // keys of the next batch, as their values have room

  mutable std::mutex mutex_; // guards what follows
  std::condition_variable woken_;
  bool stop_ = false, renew_ = false;
  ConvergeQueue queue_;
  std::unordered_multiset<uint64_t> in_work_; // since when they wait
  ConvergeFigures figures_;

  std::atomic<bool> ended_ = false;
  std::thread thread_; // the last: it uses all of the above
};

} // namespace doppel::migrate
