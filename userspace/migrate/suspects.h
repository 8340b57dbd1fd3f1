// SPDX-License-Identifier: Apache-2.0
// Keys that differed at a first look, until they may be looked at again.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "userspace/memcached/connection.h"
#include "userspace/migrate/compare.h"
#include "userspace/migrate/walk.h"
#include "userspace/util/error.h"

namespace doppel::migrate {

struct Suspect {
  std::string key;
  Print source; // at the first look
  Difference difference = Difference::none;
  uint64_t due_ns = 0; // of the second look
};

// What came of it. `won`: the second look took the application's token at the source; `target_won`:
// at the target.
enum class Verdict { equal, differs, moving, gone, stale, unreadable };
using TakeVerdict = std::function<Status(const Suspect &, Verdict, bool won, bool target_won)>;

class Suspects {
public:
  // More are not kept: a target that is empty would need as much memory as the source has keys.
  static constexpr size_t kMost = 200'000;

  // `careful`: `take` ends it with an error where a read took a token.
  Suspects(memcached::Connection &source, memcached::Connection &target, uint64_t settle_ns,
           Pace &pace, bool careful, TakeVerdict take)
      : source_(source), target_(target), settle_ns_(settle_ns), pace_(pace), careful_(careful),
        take_(std::move(take)), alive_({&source, &target}) {}

  void add(std::string key, const Print &source, Difference difference);
  // Looks again at what is due, and, while there are kMost, waits for what will be.
  Status look_again();
  // Waits for all.
  Status finish();
  size_t count() const { return waiting_.size(); }

private:
  Status judge(std::vector<Suspect> batch);
  Status judge_at_once(const std::vector<Suspect> &batch);
  Status leave_unmoved(std::vector<Suspect> &batch, std::vector<Suspect> &unmoved);
  void note_way(uint64_t took_ns);

  memcached::Connection &source_, &target_;
  uint64_t settle_ns_;
  Pace &pace_;
  bool careful_;
  TakeVerdict take_;
  KeepAlive alive_;
  std::deque<Suspect> waiting_; // in the order in which they are due
  // Of a second look; less where the way is slow, as the first batches tell.
  uint64_t most_bytes_ = Batch::kMostBytes / 64;
};

} // namespace doppel::migrate
