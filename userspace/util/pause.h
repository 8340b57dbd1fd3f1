// SPDX-License-Identifier: Apache-2.0
// How a function that waits for the data plane spends its waits.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

namespace doppel {

// Comes back after about that time. Empty: sleep. The keeper serves retransmissions meanwhile.
using Pause = std::function<void(std::chrono::milliseconds)>;

inline void pause_for(const Pause &pause, std::chrono::milliseconds time) {
  if (pause)
    pause(time);
  else
    std::this_thread::sleep_for(time);
}

} // namespace doppel
