// SPDX-License-Identifier: Apache-2.0
// How much of what clients send a target gets: a sample of the connections, some copies of each.
#pragma once

#include <cstdint>
#include <string>

#include "userspace/util/error.h"

namespace doppel {

struct Portion {
  static constexpr uint32_t kAll = 1'000'000;
  uint32_t sample = kAll; // connections, parts per million; 0: none, a dry run
  uint32_t copies = 1;    // of each
  bool is_dry_run() const { return sample == 0; }
  bool is_whole() const { return sample == kAll && copies == 1; }
  friend bool operator==(const Portion &a, const Portion &b) = default;
};

// "10%", "0.25%" or the fraction "0.1", from 0.01 % to 100 % and without rounding: parts per
// million. Only Error.what and .hint are filled in.
Result<uint32_t> parse_sample(const std::string &text);

// "10%", "0.25%": parse_sample() reads it back exactly.
std::string sample_text(uint32_t sample);

// As dp_target.sample has it. And back.
uint32_t sample_bound(uint32_t sample);
uint32_t sample_of_bound(uint32_t bound);

// "10% of the connections, each 8 times".
std::string portion_text(const Portion &portion);

// "... is unfit for a migration: ...", of a portion that is not whole: why.
std::string why_unfit(const Portion &portion);

} // namespace doppel
