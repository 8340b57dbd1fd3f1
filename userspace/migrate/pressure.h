// SPDX-License-Identifier: Apache-2.0
// How fast warm may read: no faster than it was told, and no faster than the source takes without
// answering its clients later.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace doppel::migrate {

class Pressure {
public:
  // Keys a second at most; 0: no bound but the source.
  explicit Pressure(double rate) : rate_(rate) {}

  // Round trips of a small request: first those of a source that warm leaves in peace, then one now
  // and then.
  void quiet(uint64_t us);
  void measured(uint64_t us);
  // So many keys were read.
  void took(uint64_t keys, uint64_t now_ns);
  // When the next may be.
  uint64_t next_ns() const { return next_ns_; }
  // As many as make no burst that is worth the name.
  uint64_t most_keys() const;

private:
  double rate() const; // keys/s, the lower of the two; 0: none

  double rate_;
  double limit_ = 0; // keys/s, of the source's making; 0: none
  uint64_t next_ns_ = 0;
  uint64_t quiet_us_ = 0, quiets_ = 0;
  std::array<uint64_t, 5> last_{};
  size_t at_ = 0;
  uint64_t window_ns_ = 0, window_keys_ = 0; // what is read in fact
  double measured_rate_ = 0;
};

} // namespace doppel::migrate
