// SPDX-License-Identifier: Apache-2.0
// What warm waits for between a read at the source and a store at the target: that all that the
// source may have executed by the read's end is done at the target, too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "userspace/memcached/access.h"
#include "userspace/memcached/server.h"
#include "userspace/util/error.h"

namespace doppel::migrate {

// From when on a barrier tells what did not arrive.
struct BarrierStart {
  std::string mirror;  // which it is, and its ways, a word each; empty: none is seen
  uint64_t missed = 0; // bytes that it would not deliver at that moment
};

class Barrier {
public:
  virtual ~Barrier() = default;
  // Now: what is on its way at this moment. The number is larger than that of every begin() before.
  virtual Result<uint64_t> begin() = 0;
  // Whether all that was on its way at that begin() is done. Asked for the oldest first.
  virtual Result<bool> is_passed(uint64_t mark) = 0;
  // An error: the mirror is not any more what it was when the barrier was made, so that what
  // clients do does not reach the target.
  virtual Status check() { return Unit{}; }
  // Of the last check(): somebody repairs the keys of commands that depend on what is there
  // (docs/converge.md), with what our own copies make of them.
  virtual bool converges() const { return false; }
  // Request bytes since the barrier was made that will never reach the target: a delete may be
  // among them.
  virtual Result<uint64_t> missed_bytes() = 0;
  virtual BarrierStart start() const { return {}; }
  // From here on as if it had been made when `before` was; else what has happened to that mirror
  // since.
  virtual std::string go_on_from(const BarrierStart &before) {
    return before.mirror.empty() ? "" : "it began beside a mirror, of which nothing is seen now";
  }
};

// No mirror is seen: nothing is waited for.
class NoBarrier : public Barrier {
public:
  Result<uint64_t> begin() override { return ++marks_; }
  Result<bool> is_passed(uint64_t) override { return true; }
  Result<uint64_t> missed_bytes() override { return 0; }

private:
  uint64_t marks_ = 0;
};

struct FoundBarrier {
  std::unique_ptr<Barrier> barrier;
  std::string mapping; // its name, or theirs; empty: no mirror of this pair is seen
  std::string note;    // a sentence about what was found, or why nothing was; may be empty
};

// The mappings of a mirror on this host that copy `source`'s port to `target`. Where nothing is
// seen of one, that is no error: there may be none, or it may be on another host.
FoundBarrier find_barrier(const memcached::Server &source, const memcached::Server &target,
                          const memcached::Access &access);

// An error: a mirror on this host leads from `target` to `source`, so that what clients use at
// present would be overwritten with what they left.
Status not_against_mirror(const memcached::Server &source, const memcached::Server &target,
                          const memcached::Access &access);

} // namespace doppel::migrate
