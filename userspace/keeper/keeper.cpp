// SPDX-License-Identifier: Apache-2.0
// The loop: one epoll, whose timeout is the next thing that has a time. How the keeper begins and
// ends is in keeper_start.cpp.
#include "userspace/keeper/keeper.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "userspace/keeper/notify.h"
#include "userspace/kernel/link.h"
#include "userspace/kernel/rtnl.h"
#include "userspace/util/log.h"

namespace doppel {

namespace {

using namespace std::chrono_literals;

constexpr auto kCheck = 30s;       // for what no event tells of: a TCX link that others detached
constexpr auto kSettle = 20ms;     // changes come in bursts: a device, its address, its route
constexpr int kRestFactor = 20;    // at most one part in so many is spent on reviews
constexpr auto kExpiryStep = 20ms; // between two batches of a pass over the flow table
constexpr uint32_t kSilent = 3600; // s, for flows without a shadow where idle_timeout is 0

std::string line(const Error &e) { return e.where.empty() ? e.what : e.where + ": " + e.what; }

bool add_to(const Fd &epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  return ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

} // namespace

Status Keeper::listen() {
  auto pins = TRY(Pins::locate());
  auto events = TRY(RetransmitEvents::open(pins));
  events_ = std::move(events);
  auto expiry = TRY(Expiry::open(pins));
  expiry_ = std::make_unique<Expiry>(std::move(expiry));
  net_->watch(config_, meta_);
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_ || !add_to(epoll_, signals_.get()) || !add_to(epoll_, events_->fd()) ||
      !add_to(epoll_, net_->fd()))
    return sys_error("epoll", "cannot be set up", errno);
  return Unit{};
}

Pause Keeper::pause() {
  return [this](std::chrono::milliseconds time) {
    if (watchdog_ms_)
      notify_alive();
    if (!events_)
      return;
    const auto until = Clock::now() + time;
    for (auto left = time; left.count() > 0;
         left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now())) {
      pollfd p{events_->fd(), POLLIN, 0};
      if (::poll(&p, 1, static_cast<int>(left.count())) > 0)
        (void)events_->serve(); // a failure shows again in the loop
    }
  };
}

int Keeper::patience() const {
  auto next = std::min({review_at_, check_at_, expire_at_});
  if (watchdog_ms_)
    next = std::min(next, alive_at_);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 3'600'000));
}

Status Keeper::read_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo == SIGHUP)
      reload_ = true;
    else
      stop_ = true;
  }
  return Unit{};
}

Status Keeper::wait(int timeout_ms) {
  epoll_event events[4];
  const int n = ::epoll_wait(epoll_.get(), events, 4, timeout_ms);
  if (n < 0 && errno != EINTR)
    return sys_error("epoll", "cannot wait", errno);
  for (int i = 0; i < n; i++) {
    Status s = Unit{};
    if (events[i].data.fd == signals_.get())
      s = read_signals();
    else if (events[i].data.fd == events_->fd())
      s = events_->serve();
    else if (net_->changed())
      review_soon();
    if (!s)
      return s;
  }
  return Unit{};
}

void Keeper::review_soon() {
  review_at_ = std::min(review_at_, std::max(Clock::now() + kSettle, rest_until_));
}

Status Keeper::do_what_is_due() {
  const auto now = Clock::now();
  if (watchdog_ms_ && now >= alive_at_) {
    notify_alive();
    alive_at_ = now + std::chrono::milliseconds(watchdog_ms_ / 2);
  }
  if (now >= expire_at_)
    TRY(expire());
  if (now >= review_at_ || now >= check_at_) {
    auto s = review();
    const auto end = Clock::now();
    review_at_ = Clock::time_point::max();
    rest_until_ = end + kRestFactor * (end - now);
    check_at_ = end + kCheck;
    return s;
  }
  return Unit{};
}

Status Keeper::expire() {
  const uint32_t idle_s = config_.limits.idle_s, silent_s = idle_s ? idle_s : kSilent;
  auto known = TRY(expiry_->known(meta_.mappings));
  bool more = false;
  if (known > 0) {
    more = TRY(expiry_->step(silent_s, idle_s != 0));
  }
  const auto pass = std::clamp<std::chrono::seconds>(std::chrono::seconds(silent_s) / 4, 1s, 900s);
  expire_at_ = Clock::now() + (more ? Clock::duration(kExpiryStep) : Clock::duration(pass));
  return Unit{};
}

// Compares the data plane with what the host is like now, and puts right what differs.
Status Keeper::review() {
  auto health = read_health();
  if (health && (!health->pins || !health->complete || !health->link)) {
    // Others may be just about to detach: then all of it is gone once they are done.
    health = settled_health();
    if (health && !health->pins) {
      detached_ = true;
      return Unit{};
    }
    if (health && (!health->complete || !health->link))
      return attach_anew("the data plane was damaged (device doppel0 was removed?): detaching what "
                         "is left, and attaching anew");
  }
  if (!health) {
    hold(health.errors(), {});
    return Unit{};
  }
  if (!health->link_up) {
    auto nl = Rtnl::open();
    if (nl && start_link_pair(*nl))
      log_line(Priority::warning, "device doppel0 was down: it is up again");
  }
  ApplyOptions options;
  options.tolerant = true;
  options.drain_ms = options_.drain_ms;
  options.pause = pause();
  auto applied = apply(config_, options);
  if (applied) {
    tell(*applied);
    hold(applied->deferred, applied->warnings);
    return Unit{};
  }
  hold(applied.errors(), {});
  if (auto again = read_health(); again && !again->pins)
    detached_ = true;
  return Unit{};
}

void Keeper::tell(const Applied &applied) {
  for (const Attachment &a : applied.change.attach)
    log_line(Priority::notice,
             a.program + " runs again on " + a.device + " " + direction_name(a.direction));
  for (const std::string &sentence : applied.change.updated)
    log_line(Priority::notice, sentence);
  if (!applied.change.added.empty() || !applied.change.removed.empty())
    log_line(Priority::notice, "changed: " + to_text(applied));
  meta_ = applied.meta;
  net_->watch(config_, meta_);
}

// Each problem is told when it comes and when it goes.
void Keeper::hold(const Errors &errors, const std::vector<std::string> &warnings) {
  std::set<std::string> now(warnings.begin(), warnings.end());
  for (const Error &e : errors)
    now.insert(line(e));
  for (const std::string &problem : now)
    if (!problems_.count(problem))
      log_line(Priority::warning, problem);
  for (const std::string &problem : problems_)
    if (!now.count(problem))
      log_line(Priority::notice, "no longer: " + problem);
  if (now != problems_) {
    problems_ = std::move(now);
    notify_status(status());
  }
}

void Keeper::reload() {
  notify_reloading();
  Errors errors;
  std::string text;
  if (!options_.from_file) {
    errors.push_back({"doppel run",
                      "the mappings come from the command line: there is no file to "
                      "read again",
                      "start doppel run with --config FILE"});
  } else if (auto config = options_.load(); !config) {
    errors = config.errors();
  } else {
    ApplyOptions options;
    options.drain_ms = options_.drain_ms;
    options.pause = pause();
    auto applied = apply(*config, options);
    if (applied) {
      config_ = std::move(*config);
      meta_ = applied->meta;
      net_->watch(config_, meta_);
      text = to_text(*applied);
      hold({}, applied->warnings);
    } else {
      errors = applied.errors();
    }
  }
  if (errors.empty()) {
    log_line(Priority::notice, "reloaded: " + text);
  } else {
    log_errors(errors);
    log_line(Priority::error, "not reloaded: the mirror goes on as before");
  }
  record(errors, text);
  notify_ready(status());
}

// For `doppel reload`, which waits for it.
void Keeper::record(const Errors &errors, const std::string &text) {
  auto pins = Pins::locate();
  if (!pins)
    return;
  auto lock = pins->lock();
  auto meta = lock ? read_meta(*pins) : Result<Meta>(lock.errors());
  if (!meta)
    return;
  meta->reloads++;
  meta->reload_errors = errors;
  meta->reload_text = text;
  if (auto s = write_meta(*pins, *meta); !s)
    log_errors(s.errors());
  meta_ = *meta;
}

Status Keeper::loop() {
  check_at_ = Clock::now() + kCheck;
  expire_at_ = Clock::now();
  watchdog_ms_ = watchdog_ms();
  alive_at_ = Clock::now();
  while (!stop_ && !detached_) {
    TRY(wait(patience()));
    if (reload_ && !stop_)
      reload();
    reload_ = false;
    if (stop_)
      break;
    TRY(do_what_is_due());
  }
  return Unit{};
}

} // namespace doppel
