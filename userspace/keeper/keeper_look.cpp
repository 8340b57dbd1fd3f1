// SPDX-License-Identifier: Apache-2.0
// The keeper's eye on how the mirror fares, and what it leaves for `doppel status`.
#include <unistd.h>

#include "userspace/keeper/keeper.h"
#include "userspace/kernel/neighbours.h"
#include "userspace/kernel/rtnl.h"
#include "userspace/mirror/keeper_word.h"
#include "userspace/mirror/programs.h"
#include "userspace/util/clock.h"
#include "userspace/util/log.h"

namespace doppel {
namespace {
using namespace std::chrono_literals;

constexpr auto kLook = 1s;      // a look at a few cells of the ledger and at the captured devices
constexpr auto kHooksLook = 2s; // between two looks at the hooks, each a few calls a program
// Between two looks: what was before tells nothing of now.
constexpr uint64_t kGapNs = 4'000'000'000;
constexpr auto kBlurred = 4s; // without a look that succeeds: the mirror is no longer just changing

// Its reason may change from look to look, and it is one problem.
Problem no_sight(const Errors &errors) {
  Problem p;
  p.kind = ProblemKind::keeper;
  p.what = "the keeper cannot see how the mirror fares: " + as_sentences(errors).front();
  p.hint = "look at the limits of its process: the mirror goes on meanwhile";
  p.key = "sight";
  return p;
}

} // namespace

// What it cannot see now it may see the next time: a mirror that others are just detaching. A
// review, which would find that it is gone, may have to rest.
Status Keeper::look() {
  if (was_detached()) {
    loop_->stop();
    return Unit{};
  }
  log_lost_lines();
  if (!lost_sight_of_pins()) {
    pins_are_read_only();
    look_at_vitals();
    look_for_neighbours();
    look_at_hooks();
    give_word();
  }
  loop_->set(look_timer_, Clock::now() + kLook);
  return Unit{};
}

void Keeper::look_at_vitals() {
  const auto pins = Pins::locate();
  if (!pins || !pins->exist())
    return;
  auto vitals = read_vitals({*pins, meta_}, &attempts_, &owing_);
  if (!vitals) {
    if (Clock::now() - seen_ > kBlurred)
      found(kSight, {no_sight(vitals.errors())});
    return;
  }
  seen_ = Clock::now();
  found(kSight, {});
  while (!looks_.empty() && (looks_.front().now_ns + kMinuteNs < vitals->now_ns ||
                             looks_.front().attached != vitals->attached))
    looks_.pop_front();
  if (!looks_.empty() && vitals->now_ns - looks_.back().now_ns > kGapNs)
    first_ns_ = vitals->now_ns;
  looks_.push_back(std::move(*vitals));
  if (looks_on())
    found(kVitals, judge(looks_, problems_.of(kVitals)));
}

// After a gap, not before it has looked for as long as the judgement takes: what has been silent
// all along would be well until then.
bool Keeper::looks_on() const {
  return !looks_.empty() && looks_.back().now_ns - first_ns_ >= kLookNs;
}

// Reviews ask them as well, but seldom: whoever answers again is no problem for half a minute.
void Keeper::look_for_neighbours() {
  if (!problems_.any_of(kNeighbours))
    return;
  if (auto nl = Rtnl::open())
    found(kNeighbours, ProblemKind::neighbour, resolve_neighbours(*nl, config_, 0));
}

// No event tells of a link that others detached, and what its removed pin held ends only later:
// after a grace period of RCU and by a work queue (bpf_link_put()).
void Keeper::look_at_hooks() {
  const auto now = Clock::now();
  if (now - hooks_ < kHooksLook)
    return;
  hooks_ = now;
  auto nl = Rtnl::open();
  const auto pins = Pins::locate();
  if (!nl || !pins || !pins->exist())
    return;
  if (meta_.clock)
    keep_clock(*nl);
  std::vector<Attachment> wanted;
  for (const AttachedProgram &p : meta_.programs)
    wanted.push_back(p.what);
  const size_t running = find_running(*nl, *pins, wanted).size();
  if (running < running_)
    review_soon();
  running_ = running;
}

void Keeper::give_word() {
  word_ = Clock::now();
  if (!since_)
    since_ = std::time(nullptr);
  if (!word_map_.fd)
    if (const auto pins = Pins::locate())
      if (auto map = open_keeper_word(*pins))
        word_map_ = std::move(*map);
  if (!word_map_.fd)
    return;
  KeeperWord word;
  word.pid = ::getpid();
  word.since = since_;
  word.said_ns = monotonic_ns();
  word.problems = problems_.all();
  if (looks_on())
    word.looked_ns = looks_.back().now_ns; // not now: a look may have failed
  if (!looks_.empty())
    for (const MappingCounters &m : looks_.back().counters.mappings)
      for (const TargetCounters &t : m.targets)
        word.lost[target_key(m.name, t.target)] = lost_in_a_minute(looks_, m.name, t.target);
  if (!looks_.empty())
    word.tried = looks_.back().tried;
  (void)write_keeper_word(word_map_, word);
}

} // namespace doppel
