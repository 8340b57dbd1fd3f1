// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace doppel {
namespace {
using namespace std::chrono_literals;

constexpr int kEvents = 8; // of one wait; the rest come with the next

} // namespace

Result<Loop> Loop::open() {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll)
    return sys_error("epoll", "cannot be set up", errno);
  return Loop(std::move(epoll));
}

Status Loop::add(int fd, Function readable) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event))
    return sys_error("epoll", "cannot be set up", errno);
  readable_[fd] = std::move(readable);
  return Unit{};
}

void Loop::forget(int fd) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  readable_.erase(fd);
}

Loop::Timer Loop::add_timer(Function due) {
  timers_.push_back({std::move(due)});
  return timers_.size() - 1;
}

void Loop::set(Timer timer, Clock::time_point at) { timers_[timer].at = at; }

void Loop::set_earlier(Timer timer, Clock::time_point at) {
  timers_[timer].at = std::min(timers_[timer].at, at);
}

int Loop::patience_ms() const {
  auto next = Clock::now() + 1h;
  for (const Entry &timer : timers_)
    next = std::min(next, timer.at);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now());
  return static_cast<int>(std::max<int64_t>(left.count(), 0));
}

Status Loop::wait() {
  std::array<epoll_event, kEvents> events{};
  const int n = ::epoll_wait(epoll_.get(), events.data(), kEvents, patience_ms());
  if (n < 0 && errno != EINTR)
    return sys_error("epoll", "cannot wait", errno);
  for (int i = 0; i < n; i++) {
    const auto found = readable_.find(events[static_cast<size_t>(i)].data.fd);
    if (found == readable_.end())
      continue;                              // a function before it forgot this one
    const Function readable = found->second; // it may forget itself
    TRY(readable());
  }
  return Unit{};
}

Status Loop::run() {
  while (!stopped_) {
    TRY(wait());
    for (Timer timer = 0; timer < timers_.size() && !stopped_; timer++) {
      if (timers_[timer].at > Clock::now())
        continue;
      timers_[timer].at = Clock::time_point::max();
      const Function due = timers_[timer].due; // it may add timers
      TRY(due());
    }
  }
  return Unit{};
}

} // namespace doppel
