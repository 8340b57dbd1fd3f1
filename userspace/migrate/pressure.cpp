// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/pressure.h"

#include <algorithm>

#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
constexpr uint64_t kJitterUs = 500; // a scheduler's, on either host: nothing that a client notices
constexpr double kLeast = 1000, kUnbounded = 2e6; // keys/s

} // namespace

// The mean: a single late one says nothing.
void Pressure::quiet(uint64_t us) {
  quiet_us_ = (quiet_us_ * quiets_ + us) / (quiets_ + 1);
  quiets_++;
}

void Pressure::measured(uint64_t us) {
  last_[at_++ % last_.size()] = us;
  auto sorted = last_;
  std::sort(sorted.begin(), sorted.end());
  if (sorted[sorted.size() / 2] > 2 * quiet_us_ + kJitterUs) {
    const double now = limit_ > 0 ? limit_ : measured_rate_;
    limit_ = std::max(kLeast, now * 0.8);
  } else if (limit_ > 0) {
    limit_ *= 1.05;
    if (limit_ > kUnbounded)
      limit_ = 0;
  }
}

double Pressure::rate() const {
  return limit_ > 0 && (rate_ == 0 || limit_ < rate_) ? limit_ : rate_;
}

uint64_t Pressure::most_keys() const {
  return rate() == 0 ? UINT64_MAX : std::max<uint64_t>(1, static_cast<uint64_t>(rate() / 10));
}

void Pressure::took(uint64_t keys, uint64_t now_ns) {
  window_keys_ += keys;
  if (window_ns_ == 0)
    window_ns_ = now_ns;
  if (now_ns - window_ns_ >= kSecondNs / 10) {
    measured_rate_ =
        static_cast<double>(window_keys_) * 1e9 / static_cast<double>(now_ns - window_ns_);
    window_ns_ = now_ns;
    window_keys_ = 0;
  }
  if (const double rate = this->rate(); rate > 0)
    next_ns_ =
        std::max(next_ns_, now_ns) + static_cast<uint64_t>(static_cast<double>(keys) * 1e9 / rate);
}

} // namespace doppel::migrate
