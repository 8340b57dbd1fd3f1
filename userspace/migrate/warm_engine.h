// SPDX-License-Identifier: Apache-2.0
// Plays KeyCopy (warm_policy.h) for all keys of a list, thousands at a time: while one batch is
// read at the source, another is stored at the target, and older ones wait to be confirmed.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "userspace/migrate/pressure.h"
#include "userspace/migrate/warm_context.h"
#include "userspace/migrate/warm_policy.h"
#include "userspace/migrate/warm_repair.h"
#include "userspace/migrate/warm_requests.h"

namespace doppel::migrate {

// A key by itself, apart from its batch.
struct LoneKey {
  std::string key;
  KeyCopy copy;
  uint64_t from = 0;    // position in the list
  bool claimed = false; // the target had a placeholder of a client's
};

class WarmEngine {
public:
  explicit WarmEngine(const WarmContext &context);

  // A key beside the list's, before run().
  void take(std::string key) { again_.push_back({std::move(key), KeyCopy(false), 0}); }
  // Until the list is at its end, or a reason to stop came up, and all is confirmed.
  Status run();
  // After a failure: how many copies may be at the target and are not confirmed.
  uint64_t unconfirmed() const;
  // Deletes those that the source has changed since they were read, and tells how many. Without a
  // source: all that are known to be ours.
  Result<uint64_t> give_back(memcached::Connection *source, memcached::Connection &target);

private:
  struct Row {
    KeyCopy copy{false};
    uint32_t key_at = 0;
    uint32_t store_at = 0, store_size = 0; // its request in Batch::stores
    uint16_t opaque = 0;                   // of that request
    uint8_t key_size = 0;
    bool claimed = false; // as LoneKey::claimed
  };
  struct Batch {
    std::string keys;
    std::vector<Row> rows;
    uint64_t from = UINT64_MAX; // no key of it lies before
    uint64_t end = 0;           // of the list's part that is behind it
    uint64_t mark = 0, read_ns = 0, stored_ns = 0;
    std::string stores;
    uint64_t bytes_read = 0; // of values that were kept
    uint32_t left = 0;       // values that there was no room for, to be read once more

    std::string_view key(const Row &row) const {
      return std::string_view(keys).substr(row.key_at, row.key_size);
    }
    uint64_t bytes() const { return keys.capacity() + rows.capacity() * sizeof(Row); }
  };
  using RowAt = std::reference_wrapper<Row>;
  // What one exchange with both is about.
  struct Turn {
    Batch fresh;
    Batch ready, due; // taken off their queues
    std::string source_request, target_request;
    std::vector<uint32_t> stored, confirmed; // rows that are asked for
    std::vector<RowAt> unmoved, peeked;      // to be confirmed by `mg`
    size_t read_at = 0, confirm_at = 0, store_at = 0, delete_at = 0;
    std::string bad; // an answer that is none
  };

  Result<bool> turn();
  Status fill(Batch &batch);
  bool may_read(uint64_t now) const;
  uint64_t drained_bytes() const;
  Status choose(Turn &t, uint64_t now);
  void abandon();
  void request(Turn &t);
  Status exchange(Turn &t);
  Status confirm_by_peeks(Turn &t);
  bool take_source(Turn &t, const memcached::Answer &answer);
  bool take_read(Batch &batch, uint32_t number, const memcached::Answer &answer);
  bool take_confirm(Turn &t, Row &row, const memcached::Answer &answer);
  bool take_target(Turn &t, const memcached::Answer &answer);
  bool take_delete(const memcached::Answer &answer, LoneKey &lone);
  Status after_exchange(Turn &t);
  Status leave_present_ones(Batch &batch);
  static void keep_stores(Batch &batch, std::string &stores, Row &row);
  void note_read(const Batch &batch);
  std::vector<Unconfirmed> begun() const;
  Result<std::vector<Unconfirmed>> changed(memcached::Connection &source,
                                           const std::vector<Unconfirmed> &keys) const;
  // Takes up what a row has come to.
  void follow(const Batch &batch, Row &row);
  void follow(LoneKey lone);
  void repair(const LoneKey &lone, const KeyRepair &how, unsigned tries);
  Status replace_placeholders();
  Status look_around(uint64_t now);
  void wait(uint64_t now) const;
  uint64_t finished() const;
  bool peeks(std::string_view key) const;

  WarmContext c_;
  Pressure pace_;
  WarmRepair repair_;
  std::deque<Batch> drained_, settling_; // the oldest first
  std::vector<LoneKey> deletes_;         // to be undone or dropped
  std::vector<LoneKey> again_;
  std::vector<LoneKey> present_; // of this turn
  uint64_t settling_bytes_ = 0;
  uint64_t most_keys_, most_bytes_; // of a batch
  uint64_t next_keys_;              // begins at one: the first item that must not be read ends it
  uint64_t next_again_ = 1;         // the same of keys that were written to since they were read
  uint64_t next_check_ns_ = 0, next_look_ns_ = 0, next_measure_ns_ = 0;
  uint64_t abandoned_ = UINT64_MAX; // where what was left begins
  bool list_ended_ = false;
  bool me_is_signed_ = false; // `me` tells one second from never
};

} // namespace doppel::migrate
