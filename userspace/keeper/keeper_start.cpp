// SPDX-License-Identifier: Apache-2.0
// How the keeper comes to a data plane, and how it leaves it.
#include <sys/signalfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <csignal>

#include "userspace/keeper/keeper.h"
#include "userspace/keeper/notify.h"
#include "userspace/kernel/host_view.h"
#include "userspace/kernel/ipsec.h"
#include "userspace/kernel/privileges.h"
#include "userspace/mirror/attach.h"
#include "userspace/mirror/detach.h"
#include "userspace/mirror/teardown.h"
#include "userspace/plan/partial_plan.h"
#include "userspace/util/log.h"
#include "userspace/util/text.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
std::string bytes_text(const DetachReport &report) {
  uint64_t observed = 0, delivered = 0, lost = 0, excluded = 0;
  for (const MappingCounters &m : report.last.mappings)
    for (const TargetCounters &t : m.targets) {
      observed += t.sum.observed;
      delivered += t.sum.delivered;
      for (auto n : t.sum.lost)
        lost += n;
      for (auto n : t.sum.excluded)
        excluded += n;
    }
  return "of " + std::to_string(observed) + " bytes observed " + std::to_string(delivered) +
         " were delivered, " + std::to_string(lost) + " lost, " + std::to_string(excluded) +
         " excluded";
}

std::string report_text(const DetachReport &report) {
  if (!report.ledger)
    return "detached: there was no ledger that could be read";
  return "detached: " + std::to_string(report.closed) + " shadows closed, " +
         std::to_string(report.reset) + " reset; " + bytes_text(report);
}

// What to do is told as well: nobody looks at a problem of a mirror that is gone.
void tell_shortfalls(const DetachReport &report) {
  for (const Error &e : shortfalls(report))
    log_line(Priority::warning, e.what + ": " + e.hint);
}

} // namespace

// As it is once whoever is changing the data plane at this moment is done.
Result<MirrorHealth> Keeper::settled_health() {
  auto pins = TRY(Pins::locate());
  const auto lock = TRY(pins.lock(pause()));
  auto health = read_health();
  if (health && !health->pins)
    pins.remove_top_if_empty();
  return health;
}

// From now on it is missed.
void Keeper::take_in_care() {
  attached_ = true;
  word_map_ = {};
  looks_.clear();
  seen_ = Clock::now();
  give_word();
}

std::string Keeper::status() const {
  const size_t n = meta_.mappings.size();
  std::string text = "Mirroring " + std::to_string(n) + (n == 1 ? " mapping" : " mappings");
  if (waiting_)
    text = "Nothing is mirrored yet";
  if (const auto problems = problems_.all(); !problems.empty())
    text += "; " + problems.front().what;
  return text;
}

// News of devices and routes begin the next try, or a timer.
Status Keeper::wait_for(const Errors &missing) {
  waiting_ = true;
  net_->watch(config_, meta_);
  found(kReview, {});
  std::vector<std::string> waits;
  for (const std::string &sentence : as_sentences(missing))
    waits.push_back("waiting: " + sentence);
  found(kPlan, ProblemKind::host, waits);
  review_soon();
  return Unit{};
}

Status Keeper::attach_fresh() {
  auto host = TRY(view_host(config_));
  PartialPlan partial;
  if (options_.wait) {
    partial = TRY(make_partial_plan(config_, host));
    if (partial.plan.mappings.empty())
      return wait_for(partial.why);
  } else {
    partial.plan = TRY(make_plan(config_, host));
  }
  const Plan &plan = partial.plan;
  auto attached = TRY(attach(plan, config_));
  waiting_ = false;
  auto pins = TRY(Pins::locate());
  auto meta = TRY(read_meta(pins));
  meta_ = std::move(meta);
  take_in_care();
  const size_t n = meta_.mappings.size();
  log_line(Priority::notice, std::string("attached by ") + attach_mode_name(meta_.mechanism) +
                                 ": " + std::to_string(n) + (n == 1 ? " mapping" : " mappings") +
                                 " from " + meta_.config_source);
  tell_notes(plan.notes);
  tell_notes(attached.translated);
  found(kReview, {});
  take_plan(partial.why, plan.warnings);
  found(kNeighbours, ProblemKind::neighbour, attached.neighbours);
  found(kHooks, ProblemKind::note, attached.hooks);
  return listen();
}

Status Keeper::attach_anew(const std::string &why) {
  log_line(Priority::warning, why);
  if (events_)
    loop_->forget(events_->fd());
  events_.reset();
  expiry_.reset();
  source_ends_.reset();
  unjoinable_.reset();
  companion_->end();
  const auto ended = TRY(detach(0));
  if (ended.ledger)
    log_line(Priority::notice, "the ledger of before ends: " + bytes_text(ended));
  tell_shortfalls(ended);
  TRY(status_of(ended.errors));
  return attach_fresh();
}

Status Keeper::adopt() {
  ApplyOptions options;
  options.tolerant = true;
  options.drain_ms = options_.drain_ms;
  auto adopted = apply(config_, options);
  if (!adopted) {
    Errors errors = adopted.errors();
    for (Error &e : errors) // a setting that wants a new attach: that does not go away by itself
      e.exit = are_fixed_differences(errors) ? Exit::usage : e.exit;
    return errors;
  }
  const Applied &applied = *adopted;
  meta_ = applied.meta;
  take_in_care();
  log_line(Priority::notice, "adopted the mirror that is attached since " + iso_time(meta_.since) +
                                 ": " + to_text(applied));
  if (const auto removed = removed_names(applied.change); !removed.empty())
    log_line(Priority::warning,
             "the attached mirror had other mappings, which are removed: " + quoted_list(removed) +
                 "; " + (options_.from_file ? config_.source : "the command line") +
                 " does not name them");
  take_problems(applied);
  return listen();
}

Status Keeper::prepare_loop() {
  sigset_t mask;
  sigemptyset(&mask);
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1})
    sigaddset(&mask, signal);
  if (::sigprocmask(SIG_BLOCK, &mask, nullptr))
    return sys_error("signals", "cannot be blocked", errno);
  signals_ = Fd(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_)
    return sys_error("signals", "cannot be received", errno);
  net_ = std::make_unique<NetWatch>(TRY(NetWatch::open()));
  loop_ = std::make_unique<Loop>(TRY(Loop::open()));
  alive_timer_ = loop_->add_timer([this]() -> Status {
    stay_alive();
    return Unit{};
  });
  reload_timer_ = loop_->add_timer([this]() -> Status {
    reload();
    return Unit{};
  });
  expire_timer_ = loop_->add_timer([this] { return expire(); });
  sweep_timer_ = loop_->add_timer([this] { return follow_the_source(); });
  review_timer_ = loop_->add_timer([this] { return review(); });
  detach_timer_ = loop_->add_timer([this] { return look_after_detach(); });
  look_timer_ = loop_->add_timer([this] { return look(); });
  blind_timer_ = loop_->add_timer([this] { return look_for_blindness(); });
  converge_timer_ = loop_->add_timer([this] { return look_after_converging(); });
  companion_ = std::make_unique<Companion>(options_.converge);
  TRY(loop_->add(signals_.get(), [this] { return read_signals(); }));
  ipsec_ = watch_ipsec_policies();
  if (ipsec_)
    TRY(loop_->add(ipsec_.get(), [this]() -> Status {
      // Whatever it says: the review looks at the policies themselves.
      char buf[4096];
      while (::recv(ipsec_.get(), buf, sizeof(buf), 0) > 0 || errno == ENOBUFS || errno == EINTR)
        ;
      review_soon();
      return Unit{};
    }));
  return loop_->add(net_->fd(), [this]() -> Status {
    if (net_->changed())
      review_soon();
    return Unit{};
  });
}

// Signals are blocked first: to be told to stop while it attaches is no crash.
Status Keeper::start() {
  TRY(prepare_loop());
  config_ = TRY(options_.load());
  TRY(require_privileges("run", true));
  return begin();
}

Status Keeper::begin() {
  auto pins = Pins::locate();
  if (const auto bpffs = find_bpffs(); !bpffs && options_.wait)
    return wait_for(bpffs.errors());
  if (!pins)
    return pins.errors();
  if (!lock_)
    lock_ = std::make_unique<KeeperLock>(TRY(KeeperLock::take(*pins)));
  auto health = TRY(settled_health());
  if (!health.pins) {
    TRY(take_over(*pins));
    TRY(remove_remains(*pins));
    return attach_fresh();
  }
  waiting_ = false;
  if (!health.complete)
    return attach_anew("an interrupted attach or detach left remains: removing them");
  if (!health.link)
    return attach_anew("device doppel0 of the mirror is gone: attaching anew");
  return adopt();
}

// After an upgrade that changed DP_ABI nobody else can end what the former doppel left.
Status Keeper::take_over(const Pins &pins) {
  const auto others = pins.other_versions();
  if (others.empty())
    return Unit{};
  log_line(Priority::warning, "another version of doppel (" + quoted_list(others) +
                                  ") has left its mirror: draining it, and attaching anew");
  const auto ended = TRY(detach(options_.drain_ms, pause(), true));
  log_line(Priority::notice, "ended it: " + std::to_string(ended.closed) + " shadows closed, " +
                                 std::to_string(ended.reset) + " reset");
  return status_of(ended.errors);
}

// What was left without pins, by an attach that was killed before it made any: nobody can adopt it,
// and a service has nobody who would remove it by hand.
Status Keeper::remove_remains(const Pins &pins) {
  const auto lock = TRY(pins.lock(pause())); // else an attach that is under way looks so, too
  auto nl = TRY(Rtnl::open());
  const auto remains = TRY(find_remains(nl, &pins));
  if (!remains.any() || remains.pins || remains.pins_elsewhere)
    return Unit{};
  log_line(Priority::warning,
           "an interrupted attach or detach left remains: removing them: " + remains.text());
  Errors errors;
  remove_everything(nl, &pins, {}, errors);
  if (!errors.empty())
    return errors;
  return Unit{};
}

// What the target lacks at the end is told and is no failure: systemd would call a unit failed that
// did what it was asked for.
Status Keeper::stop() {
  notify_stopping(leave_);
  companion_->end(); // it reads what is about to go
  if (waiting_ || was_detached()) {
    log_line(Priority::notice, waiting_ ? "nothing was attached"
                                        : "another process has detached the mirror: nothing is "
                                          "left to keep");
    return Unit{};
  }
  if (leave_) {
    log_line(Priority::notice, "the mirror goes on without a keeper until the next doppel run; "
                               "doppel detach ends it");
    return Unit{};
  }
  auto report = TRY(detach(options_.drain_ms, pause()));
  log_line(Priority::notice, report_text(report));
  tell_shortfalls(report);
  return status_of(report.errors);
}

Status Keeper::run() {
  auto done = start();
  if (done) {
    notify_ready(status());
    done = loop();
  }
  if (!done && !was_detached())
    return done;
  return stop();
}

} // namespace doppel
