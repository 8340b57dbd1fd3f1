// SPDX-License-Identifier: Apache-2.0
// What the keeper does when something happens or a time has come. How it begins and ends is in
// keeper_start.cpp.
#include "userspace/keeper/keeper.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

#include "userspace/keeper/notify.h"
#include "userspace/kernel/clock.h"
#include "userspace/kernel/link.h"
#include "userspace/kernel/neighbours.h"
#include "userspace/kernel/rtnl.h"
#include "userspace/mirror/blindness.h"
#include "userspace/mirror/drain.h"
#include "userspace/util/clock.h"
#include "userspace/util/log.h"

namespace doppel {
namespace {
using namespace std::chrono_literals;

constexpr auto kCheck = 30s;       // for what no event tells of, and no look finds
constexpr auto kWaitCheck = 2s;    // for an address on a device, and for bpffs
constexpr auto kDetachCheck = 2s;  // for a detach that was interrupted
constexpr auto kSettle = 20ms;     // changes come in bursts: a device, its address, its route
constexpr int kRestFactor = 20;    // at most one part in so many is spent on reviews
constexpr auto kExpiryStep = 20ms; // between two batches of a pass over the flow table
// Between two looks at the source's sockets. A flow ends at the second that finds none: that is
// half a minute, or longer where there are thousands, and the target has as long again for its FIN.
constexpr auto kSweep = 15s;
// Of a CPU both take one part in so many at most, however many sockets this host has. What is blind
// is to be told within 40 s, with 10,000 of them as well.
constexpr int kSweepShare = 3000, kBlindShare = 1000;
constexpr auto kLongestRest = 120s;
constexpr auto kWord = 2s;         // between two signs of life, while something else takes its time
constexpr auto kBlindCheck = 10s;  // between two looks at what is asked and not seen
constexpr uint32_t kSilent = 3600; // s, for flows without a shadow where idle_timeout is 0

std::chrono::nanoseconds rest_after(uint64_t cpu_ns, int share, std::chrono::nanoseconds least) {
  const std::chrono::nanoseconds rest(cpu_ns * static_cast<uint64_t>(share));
  return std::max(least, std::min<std::chrono::nanoseconds>(rest, kLongestRest));
}

} // namespace

Status Keeper::listen() {
  auto pins = TRY(Pins::locate());
  events_ = TRY(RetransmitEvents::open(pins));
  expiry_ = std::make_unique<Expiry>(TRY(Expiry::open(pins)));
  source_ends_ = std::make_unique<SourceEnds>(TRY(SourceEnds::open(pins)));
  unjoinable_ = std::make_unique<Unjoinable>(TRY(Unjoinable::open(pins, meta_.mappings)));
  net_->watch(config_, meta_);
  const auto now = Clock::now();
  for (Loop::Timer timer :
       {expire_timer_, sweep_timer_, detach_timer_, look_timer_, converge_timer_})
    loop_->set(timer, now);
  loop_->set(blind_timer_, now + kBlindCheck);
  loop_->set_earlier(review_timer_, now + kCheck);
  return loop_->add(events_->fd(), [this] { return events_->serve(); });
}

Pause Keeper::pause() {
  return [this](std::chrono::milliseconds time) {
    if (watchdog_ms_)
      notify_alive();
    if (since_ && Clock::now() - word_ > kWord) { // `status` believes it: so it looks as well
      look_at_vitals();
      give_word();
    }
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

Status Keeper::read_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo == SIGHUP) {
      loop_->set(reload_timer_, Clock::now());
      continue;
    }
    leave_ = info.ssi_signo == SIGUSR1;
    loop_->stop();
  }
  return Unit{};
}

void Keeper::stay_alive() {
  notify_alive();
  loop_->set(alive_timer_, Clock::now() + std::chrono::milliseconds(watchdog_ms_ / 2));
}

// A detach that was killed took capture away, and TCX tells nobody.
Status Keeper::look_after_detach() {
  auto pins = TRY(Pins::locate());
  const auto paused = is_paused(pins);
  if (paused && *paused && !pins.is_locked())
    review_soon();
  loop_->set(detach_timer_, Clock::now() + kDetachCheck);
  return Unit{};
}

void Keeper::review_soon() {
  loop_->set_earlier(review_timer_, std::max(Clock::now() + kSettle, rest_until_));
}

Status Keeper::expire() {
  if (waiting_) // listen() sets the timer anew
    return Unit{};
  const auto idle_s = static_cast<uint32_t>(config_.limits.idle_s);
  Expiry::Silence silence;
  silence.tcp_s = idle_s ? idle_s : kSilent;
  silence.shadows = idle_s != 0;
  silence.udp_s = static_cast<uint32_t>(config_.limits.udp_timeout_s);
  for (const NamedMapping &m : meta_.mappings)
    if (m.protocol == protocol_name(IPPROTO_UDP))
      silence.udp_rows.insert(m.row);
  const uint32_t least_s =
      silence.udp_rows.empty() ? silence.tcp_s : std::min(silence.tcp_s, silence.udp_s);
  auto known = TRY(expiry_->known(meta_.mappings));
  bool more = false;
  if (known > 0) {
    more = TRY(expiry_->step(silence));
  }
  const auto pass = std::clamp<std::chrono::seconds>(std::chrono::seconds(least_s) / 4, 1s, 900s);
  loop_->set(expire_timer_,
             Clock::now() + (more ? Clock::duration(kExpiryStep) : Clock::duration(pass)));
  return Unit{};
}

// A kernel that cannot list its sockets is a fact that lasts: the flows wait for idle_timeout.
Status Keeper::follow_the_source() {
  if (waiting_) // as expire()
    return Unit{};
  const uint64_t begin = thread_cpu_ns();
  bool more = source_ends_->under_way() || TRY(expiry_->known(meta_.mappings)) > 0;
  if (more) {
    const auto step = source_ends_->step(meta_.mappings);
    std::vector<std::string> failed;
    if (!step)
      failed.push_back(as_sentences(step.errors()).front() +
                       "; what the source ends by itself stays until idle_timeout");
    more = step && *step;
    if (!more)
      found(kSource, ProblemKind::note, failed);
  }
  if (!more)
    TRY(tell_unjoinable());
  sweep_cpu_ns_ += thread_cpu_ns() - begin;
  const auto rest = more ? std::chrono::nanoseconds(kExpiryStep)
                         : rest_after(std::exchange(sweep_cpu_ns_, 0), kSweepShare, kSweep);
  loop_->set(sweep_timer_, Clock::now() + rest);
  return Unit{};
}

Status Keeper::tell_unjoinable() {
  for (const std::string &sentence : TRY(unjoinable_->news(meta_.mappings)))
    log_line(Priority::warning, sentence);
  return Unit{};
}

// What cannot be looked at is nobody's fault: the mirror works without.
Status Keeper::look_for_blindness() {
  const auto begin = Clock::now();
  const uint64_t cpu_begin = thread_cpu_ns();
  auto nl = Rtnl::open();
  auto pins = Pins::locate();
  if (nl && pins)
    if (const auto blind = find_blindness(*nl, *pins, meta_))
      found(kBlind, ProblemKind::blind, *blind);
  const auto end = Clock::now();
  loop_->set(blind_timer_,
             end + std::max(rest_after(thread_cpu_ns() - cpu_begin, kBlindShare, kBlindCheck),
                            std::chrono::nanoseconds(kRestFactor * (end - begin))));
  return Unit{};
}

Status Keeper::review() {
  const auto start = Clock::now();
  auto done = waiting_ ? begin() : review_now();
  const auto end = Clock::now();
  rest_until_ = end + kRestFactor * (end - start);
  loop_->set(review_timer_, end + (waiting_ ? kWaitCheck : kCheck));
  return done;
}

// Compares the data plane with what the host is like now, and puts right what differs.
Status Keeper::review_now() {
  if (was_detached()) {
    loop_->stop();
    return Unit{};
  }
  if (lost_sight_of_pins() || pins_are_read_only())
    return Unit{};
  auto health = read_health();
  if (health && (!health->pins || !health->complete || !health->link)) {
    // Others may be just about to detach: then all of it is gone once they are done.
    health = settled_health();
    if (was_detached()) {
      loop_->stop();
      return Unit{};
    }
    if (health && !health->complete)
      return attach_anew("a detach was interrupted: detaching what is left, and attaching anew");
    if (health && !health->link)
      return attach_anew("the data plane was damaged (device doppel0 was removed?): detaching what "
                         "is left, and attaching anew");
  }
  if (!health) {
    found(kReview, ProblemKind::host, as_sentences(health.errors()));
    return Unit{};
  }
  auto nl = Rtnl::open();
  if (!health->link_up && nl && start_link_pair(*nl, *health->device))
    log_line(Priority::warning, "device doppel0 was down: it is up again");
  if (nl && meta_.clock)
    keep_clock(*nl);
  ApplyOptions options;
  options.tolerant = true;
  options.only = meta_.id;
  options.drain_ms = options_.drain_ms;
  options.pause = pause();
  options.planned = [this](const auto &deferred, const auto &warnings) {
    take_plan(deferred, warnings);
  };
  auto applied = apply(config_, options);
  if (!applied) {
    found(kReview, ProblemKind::host, as_sentences(applied.errors()));
    if (was_detached())
      loop_->stop();
    return Unit{};
  }
  tell(*applied);
  // Without waiting: whoever answers only now is found at the next review.
  if (!applied->neighbours && problems_.any_of(kNeighbours) && nl)
    applied->neighbours = resolve_neighbours(*nl, config_, 0);
  take_problems(*applied);
  return Unit{};
}

void Keeper::keep_clock(Rtnl &nl) {
  const auto there = has_clock(nl, meta_.clock);
  if (!there || *there)
    return;
  const auto clock = ensure_clock(nl, meta_.clock);
  found(kClock, ProblemKind::note,
        clock ? std::vector<std::string>{} : as_sentences(clock.errors()));
  if (clock)
    log_line(Priority::warning, "the qdisc of doppel1 was gone: it is there again");
}

void Keeper::tell(const Applied &applied) {
  for (const Attachment &a : applied.change.attach) {
    const bool again =
        std::any_of(meta_.programs.begin(), meta_.programs.end(), [&](const AttachedProgram &p) {
          return p.what.program == a.program && p.what.device == a.device &&
                 p.what.direction == a.direction;
        });
    log_line(Priority::notice, a.program +
                                   (again && !a.optional ? " runs again on " : " runs on ") +
                                   a.device + " " + direction_name(a.direction));
  }
  for (const std::string &sentence : applied.change.updated)
    log_line(Priority::notice, sentence);
  if (!applied.change.added.empty() || !applied.change.removed.empty() || !applied.ended.empty())
    log_line(Priority::notice, "changed: " + to_text(applied));
  if (applied.resumed)
    log_line(Priority::warning, "an interrupted detach had paused the mirror: it goes on");
  meta_ = applied.meta;
  net_->watch(config_, meta_);
}

void Keeper::take_problems(const Applied &applied) {
  tell_notes(applied.notes);
  found(kReview, {});
  take_plan(applied.deferred, applied.plan_warnings);
  if (applied.neighbours)
    found(kNeighbours, ProblemKind::neighbour, *applied.neighbours);
  if (applied.hooks)
    found(kHooks, ProblemKind::note, *applied.hooks);
}

void Keeper::take_plan(const Errors &deferred, std::vector<std::string> warnings) {
  for (std::string &sentence : as_sentences(deferred))
    warnings.push_back(std::move(sentence));
  found(kPlan, ProblemKind::host, warnings);
}

void Keeper::tell_notes(const std::vector<std::string> &notes) {
  for (const std::string &note : notes)
    log_line(Priority::warning, note);
}

// Each problem is told when it comes and when it goes.
void Keeper::found(const std::string &check, std::vector<Problem> problems) {
  const auto news = problems_.found(check, std::move(problems), std::time(nullptr));
  for (const std::string &problem : news.begun)
    log_line(Priority::warning, problem);
  for (const std::string &problem : news.over)
    log_line(Priority::notice, "no longer: " + problem);
  if (!news.empty())
    notify_status(status());
}

void Keeper::found(const std::string &check, ProblemKind kind,
                   const std::vector<std::string> &sentences) {
  found(check, as_problems(kind, sentences));
}

Result<std::string> Keeper::reload_now() {
  if (!options_.from_file)
    return Error{"doppel run",
                 "the mappings come from the command line: there is no file to read again",
                 "start doppel run with --config FILE"};
  auto config = TRY(options_.load());
  if (waiting_) {
    config_ = std::move(config);
    net_->watch(config_, meta_);
    review_soon();
    return std::string("waiting for what that one needs");
  }
  if (const bool unseen = lost_sight_of_pins(); unseen || pins_are_read_only()) {
    const Problem why = problems_.of(unseen ? kPins : kReadOnly).front();
    return Error{"doppel run", why.what, why.hint};
  }
  ApplyOptions options;
  options.only = meta_.id;
  options.drain_ms = options_.drain_ms;
  options.pause = pause();
  const auto applied = TRY(apply(config, options));
  config_ = std::move(config);
  meta_ = applied.meta;
  net_->watch(config_, meta_);
  take_problems(applied);
  return to_text(applied);
}

void Keeper::reload() {
  notify_reloading();
  const auto text = reload_now();
  if (text) {
    log_line(Priority::notice, "reloaded: " + *text);
    record({}, *text);
  } else {
    log_errors(text.errors());
    log_line(Priority::error, "not reloaded: the mirror goes on as before");
    record(text.errors(), {});
  }
  notify_ready(status());
}

// For `doppel reload`, which waits for it.
void Keeper::record(const Errors &errors, const std::string &text) {
  auto pins = Pins::locate();
  if (!pins || waiting_ || !pins->exist())
    return;
  auto lock = pins->lock(pause());
  auto meta = lock ? read_meta(*pins) : Result<Meta>(lock.errors());
  if (!meta || meta->id != meta_.id)
    return;
  meta->reloads++;
  meta->reload_errors = errors;
  meta->reload_text = text;
  if (auto s = write_reload(*pins, *meta); !s)
    log_errors(s.errors());
  meta_ = *meta;
}

Status Keeper::loop() {
  watchdog_ms_ = watchdog_ms();
  if (watchdog_ms_)
    loop_->set(alive_timer_, Clock::now());
  return loop_->run();
}

} // namespace doppel
