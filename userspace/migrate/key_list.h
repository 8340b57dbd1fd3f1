// SPDX-License-Identifier: Apache-2.0
// The keys of a server as a file of dump lines, and how that file is read.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "userspace/memcached/connection.h"
#include "userspace/memcached/dump.h"
#include "userspace/migrate/list_sum.h"
#include "userspace/util/error.h"
#include "userspace/util/fd.h"

namespace doppel::migrate {

struct KeyList {
  Fd file; // lines as of lru_crawler metadump
  uint64_t keys = 0;
  uint64_t start = 0; // of the first line
  ListSum sum;        // of a file with a name
};

// Into a spool (spool.h), at the server's speed.
Result<KeyList> list_keys(memcached::Connection &c);

// How many there are now that begin with `prefix`.
Result<uint64_t> count_keys(memcached::Connection &c, const std::string &prefix);

// Reads the lines of such a file one after the other, with memory for one block.
class ListReader {
public:
  explicit ListReader(int fd, uint64_t offset = 0);
  // False: the end, or status() is an error.
  bool next(memcached::DumpLine &line);
  uint64_t offset() const { return line_at_; } // of the line that came last
  // Lines that are none of a dump and were passed over, since this was asked.
  uint64_t take_unreadable() { return std::exchange(unreadable_, 0); }
  Status status() const;

private:
  bool fill();

  int fd_;
  uint64_t next_at_;
  uint64_t line_at_ = 0;
  uint64_t unreadable_ = 0;
  int err_ = 0;
  std::unique_ptr<char[]> block_;
  size_t begin_ = 0, end_ = 0; // within block_; begin_ is at next_at_
};

// The offsets of `most` lines whose keys have the prefix, each with the same chance, in the order
// of the file; of all if there are no more. `matching` is how many there are.
Result<std::vector<uint64_t>> sample_of(const KeyList &list, const std::string &prefix,
                                        uint64_t most, uint64_t seed, uint64_t &matching);

// How many keys of `list` that are `wanted` are not in `other`, which is read once for each `most`
// of them: so many are in memory.
Result<uint64_t> count_absent(const KeyList &list, const KeyList &other,
                              const std::function<bool(const std::string &)> &wanted,
                              size_t most = 65'536);

// The line that begins there.
Result<memcached::DumpLine> line_at(const KeyList &list, uint64_t offset);

// As a dump writes it: what is no letter, digit or -._~ as %XX.
std::string key_text(std::string_view key);

} // namespace doppel::migrate
