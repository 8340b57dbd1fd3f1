// SPDX-License-Identifier: Apache-2.0
// Waits for file descriptors and times, and calls the functions that were added for them. One
// thread; the functions may add, set and forget whatever they like.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <vector>

#include "userspace/util/fd.h"

namespace doppel {

class Loop {
public:
  using Clock = std::chrono::steady_clock;
  using Function = std::function<Status()>;
  using Timer = size_t;

  static Result<Loop> open();

  // Calls `readable` whenever `fd` can be read, until forget(fd). The caller owns `fd`, and forgets
  // it before closing it.
  Status add(int fd, Function readable);
  void forget(int fd);

  // A time that is not set yet. Those that are due at once are called in the order of adding.
  Timer add_timer(Function due);
  // Calls the timer's function once, at that time or soon after, instead of at the time set before.
  void set(Timer timer, Clock::time_point at);
  // The same, unless it is set for an earlier time.
  void set_earlier(Timer timer, Clock::time_point at);

  // Until stop(), which any function may call, or the first error that a function returns. After
  // stop() no timer's function is called any more.
  Status run();
  void stop() { stopped_ = true; }

private:
  struct Entry {
    Function due;
    Clock::time_point at = Clock::time_point::max(); // not set
  };

  explicit Loop(Fd epoll) : epoll_(std::move(epoll)) {}
  int patience_ms() const;
  Status wait();

  Fd epoll_;
  std::map<int, Function> readable_; // by fd
  std::vector<Entry> timers_;
  bool stopped_ = false;
};

} // namespace doppel
