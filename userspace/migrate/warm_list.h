// SPDX-License-Identifier: Apache-2.0
// The keys that warm goes through, on disk, the hottest first; with a file also how far it got,
// written ahead, so that a warm that died at any moment is taken up by the next.
//
// The file: a block of kListStart bytes with a text (what the list is of, how long it is) and two
// places for the progress, which are written in turn; then the lines of the source's dump. The list
// is read several times, each time for keys of another heat: nothing is sorted, nothing kept in
// memory. A position counts bytes over all these passes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "userspace/memcached/connection.h"
#include "userspace/memcached/stats.h"
#include "userspace/migrate/barrier.h"
#include "userspace/migrate/list_sum.h"
#include "userspace/util/error.h"
#include "userspace/util/fd.h"

namespace doppel::migrate {

constexpr uint64_t kListStart = 4096;

// What a warm goes by that began earlier, in another process.
struct WarmOrigin {
  BarrierStart barrier;
  uint64_t source_flushes = 0, target_flushes = 0; // their flush_all
  memcached::Evictions target_evictions;
};

class WarmList {
public:
  struct Key {
    std::string key;        // raw
    uint32_t size = 0;      // of the whole item, as the dump had it
    uint64_t from = 0;      // position of its line
    bool unsettled = false; // a warm that died may have stored it and not confirmed it
  };

  // `file` empty: a file without a name. `what`: of which servers and keys; a file of others is an
  // error. `since`: of which starts of theirs, likewise. So is a file that another warm holds, or
  // that was left for longer than an hour: what was begun may be what clients wrote since.
  static Result<WarmList> open(const std::string &file, const std::string &what,
                               const std::string &since);

  // It was taken up from a file: the keys between done and begun are unsettled.
  bool is_resumed() const { return unsettled_end_ != 0 || position_ != 0; }
  bool is_filled() const { return progress_.number != 0; }
  // It was taken up from a file that is not as it was left: nothing can go by it.
  bool is_damaged() const { return is_damaged_; }
  // With the keys of now, by a warm that begins. After an error no file is left.
  Status fill(memcached::Connection &source, const WarmOrigin &origin = {});
  const WarmOrigin &origin() const { return origin_; }

  uint64_t keys() const { return keys_; }
  uint64_t position() const { return position_; } // everything before it was given out

  // The next key that begins with `prefix`; false: there are no more.
  Result<bool> next(const std::string &prefix, Key &key);

  // Before anything of keys up to there is stored. That is there for whoever takes it up, if the
  // host goes on; if it does not, some more count as begun, as not each is waited for to be on
  // disk.
  Status begin(uint64_t position);
  // All before it is confirmed.
  Status finish(uint64_t position);
  // Nothing is on its way any more: the file tells all that is confirmed. all_confirmed: so is
  // whatever was stored, and what comes behind counts as not begun.
  Status settle(bool all_confirmed);
  // Everything is done: the file is empty, and goes.
  void remove();

private:
  struct Progress {
    uint64_t number = 0, done = 0, begun = 0;
    uint64_t reserved = 0; // begun at most, should the host die
    uint32_t boot = 0;
  };

  Status read_head();
  Status make_list(memcached::Connection &source);
  Status check_age() const;
  Status check_list();
  Status read_origin(std::string_view head);
  void read_progress(std::string_view head);
  Error damaged(const std::string &how);
  Status write_head();
  Status write_progress();
  std::string progress_text(const Progress &progress) const;
  Status classify();
  Result<bool> line(std::string_view &line);

  static constexpr uint64_t kPasses = 3;

  bool is_unnamed() const { return name_.empty(); }

  std::string name_; // of the file; empty: it has none
  std::string file_; // the same for messages
  std::string what_, since_;
  WarmOrigin origin_;
  uint32_t boot_ = 0; // which start of this host it is
  Fd fd_;
  uint64_t keys_ = 0;
  ListSum sum_;                       // of the lines
  uint64_t newest_ = 0, hot_age_ = 0; // see classify()
  Progress progress_, written_;
  uint64_t position_ = 0;
  uint64_t unsettled_end_ = 0; // a dead warm had begun up to here
  bool is_damaged_ = false;
  bool is_ours_ = false; // what is under the name

  std::string buffer_; // of the pass, from buffer_at_ on
  uint64_t buffer_at_ = 0;
  size_t used_ = 0;
};

} // namespace doppel::migrate
