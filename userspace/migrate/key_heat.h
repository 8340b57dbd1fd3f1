// SPDX-License-Identifier: Apache-2.0
// Which keys requests name most, of a sample of them. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "doppel/abi.h"

namespace doppel::migrate {

// A key at one server within an interval: behind another port or address it is another item. The
// counts are those of the samples.
struct KeyRow {
  std::string key;
  uint16_t mapping = 0; // row
  dp_addr server{};     // that requests went to
  __be16 server_port = 0;
  uint64_t reads = 0, stores = 0, deletes = 0;
  uint64_t others = 0; // commands whose outcome depends on what is there: add, cas, incr, ...
  std::optional<uint64_t> misses; // of the reads; nothing: not known
  std::optional<uint32_t> size; // of the value that was stored last, bytes; nothing: none was seen
  // Of all requests, as the share that was sampled tells.
  double calls_per_s = 0;
  // Of the values that were stored, and read but by known misses; nothing: the size is unknown.
  std::optional<double> bps;

  uint64_t calls() const { return reads + stores + deletes + others; }
  bool is_written() const { return stores + deletes + others > 0; }
  std::string server_text() const; // "10.0.0.1:11211"
};

enum class KeyOrder { calls, size, bps, key };

struct KeyModel {
  double interval_s = 0;
  dp_key_sampled sampled{};                // within the interval
  std::map<uint16_t, std::string> mapping; // names by row
  std::vector<KeyRow> rows;                // the hottest first
  uint64_t unlisted = 0;                   // samples of keys that were too many to remember

  // All keys, divided by those that were told.
  double one_in() const;
  // Sets what a second has of each row, which its counts tell.
  void reckon();
};

class KeyHeat {
public:
  // `most`: so many rows are remembered, at least two. Of more, the colder half is forgotten.
  explicit KeyHeat(size_t most = 10'000) : most_(most) {}

  void take(const dp_key_note &sample);
  // What was taken since the last call, in that time. Sizes stay known.
  KeyModel end(double interval_s, const dp_key_sampled &sampled);
  // Forgets the misses of keys that were written to since end(), while the sources were asked.
  void doubt_misses(KeyModel &model) const;
  size_t remembered() const { return rows_.size(); }

private:
  void forget_the_coldest();

  const size_t most_;
  std::unordered_map<std::string, KeyRow> rows_; // by mapping, server and key
  uint64_t unlisted_ = 0;
};

// The hottest first, or the largest, or by name.
void sort_keys(std::vector<KeyRow> &rows, KeyOrder order);

} // namespace doppel::migrate
