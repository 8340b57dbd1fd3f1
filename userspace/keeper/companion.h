// SPDX-License-Identifier: Apache-2.0
// A process that the keeper starts beside itself, and that never outlives it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace doppel {

class Companion {
public:
  using Clock = std::chrono::steady_clock;

  // `command`: its words, the first one a file; empty: there is none to start.
  explicit Companion(std::vector<std::string> command) : command_(std::move(command)) {}
  ~Companion() { end(); }
  Companion(const Companion &) = delete;
  Companion &operator=(const Companion &) = delete;

  // Starts it, or starts it anew, if that is due; logs how the last one ended.
  void keep();
  // Ends it, and waits until it is gone.
  void end();
  bool runs() const { return pid_ > 0; }

private:
  void start();
  void take_leave(int status);

  const std::vector<std::string> command_;
  pid_t pid_ = 0; // 0: it does not run
  Clock::time_point started_, next_;
  Clock::duration rest_{}; // before the next start
};

} // namespace doppel
