// SPDX-License-Identifier: Apache-2.0
// Waiting for what another thread, the kernel, or a timer does.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

namespace doppel {

// True as soon as the condition is; false if that takes more than 20 s.
inline bool soon(const std::function<bool()> &true_now) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!true_now()) {
    if (std::chrono::steady_clock::now() > until)
      return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

} // namespace doppel
