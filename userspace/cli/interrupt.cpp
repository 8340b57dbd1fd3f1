// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/interrupt.h"

#include <csignal>

namespace doppel {
static_assert(std::atomic<bool>::is_always_lock_free); // a signal handler sets it
std::atomic<bool> interrupted = false;

void interrupt_by_signals(std::initializer_list<int> more) {
  struct sigaction sa {};
  sa.sa_handler = [](int) { interrupted = true; }; // without SA_RESTART: ends the sleep
  sigaction(SIGINT, &sa, nullptr);
  sigaction(SIGTERM, &sa, nullptr);
  for (const int signal : more)
    sigaction(signal, &sa, nullptr);
}

} // namespace doppel
