// SPDX-License-Identifier: Apache-2.0
// `doppel run`: does for the data plane what needs an eye on the host. The data plane forwards and
// sends again without it; what it misses meanwhile is what the source ends, expiry and repairs.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "userspace/config/config.h"
#include "userspace/keeper/companion.h"
#include "userspace/keeper/expiry.h"
#include "userspace/keeper/keeper_lock.h"
#include "userspace/keeper/loop.h"
#include "userspace/keeper/netwatch.h"
#include "userspace/keeper/problems.h"
#include "userspace/keeper/retransmit_events.h"
#include "userspace/keeper/source_ends.h"
#include "userspace/keeper/unjoinable.h"
#include "userspace/mirror/apply.h"
#include "userspace/mirror/health.h"
#include "userspace/mirror/keeper_word.h"
#include "userspace/mirror/vitals.h"

namespace doppel {

struct KeeperOptions {
  std::function<Result<Config>()> load; // the configuration as it is now
  bool from_file = false;               // false: reloading it brings nothing new
  uint32_t drain_ms = 2000;
  std::vector<std::string> converge; // the command that repairs what may differ; empty: none
  bool wait = false; // for a device, an address, a route or bpffs, where there is nothing to mirror
};

// The checks that find problems, see Problems.
inline constexpr char kReview[] = "review", kPlan[] = "plan", kNeighbours[] = "neighbours",
                      kHooks[] = "hooks", kSource[] = "source", kClock[] = "clock",
                      kVitals[] = "vitals", kBlind[] = "blind", kSight[] = "sight",
                      kPins[] = "pins", kReadOnly[] = "read-only", kConverge[] = "converge";

class Keeper {
public:
  explicit Keeper(KeeperOptions options) : options_(std::move(options)) {}

  // Attaches, or adopts what is attached, and keeps it until a signal says to stop: SIGTERM and
  // SIGINT detach, SIGUSR1 leaves the mirror to the next keeper. Logs what it does. The errors are
  // those for which it could not start, or for which it had to give up.
  Status run();

private:
  using Clock = Loop::Clock;

  // keeper_start.cpp
  Status start();
  Status begin();
  Status take_over(const Pins &pins);
  Status prepare_loop();
  Status wait_for(const Errors &missing);
  Status adopt();
  Status attach_fresh();
  Status attach_anew(const std::string &why);
  Result<MirrorHealth> settled_health();
  Status remove_remains(const Pins &pins);
  std::string status() const;
  void take_in_care();
  Status stop();

  // keeper_gone.cpp
  Result<bool> runs_unseen(const Pins &pins) const;
  bool is_gone(const Pins &pins) const; // the mirror that it kept
  bool was_detached();
  bool lost_sight_of_pins();
  bool pins_are_read_only();

  // keeper.cpp
  Status listen();
  Status loop();
  Status read_signals();
  void stay_alive();
  Status expire();
  Status follow_the_source();
  Status tell_unjoinable();
  Status look_after_detach();
  Status look_for_blindness();
  Status review();
  Status review_now();
  void keep_clock(Rtnl &nl);
  void review_soon();
  void reload();
  Result<std::string> reload_now();
  void record(const Errors &errors, const std::string &text);
  void tell(const Applied &applied);
  void take_problems(const Applied &applied);
  void take_plan(const Errors &deferred, std::vector<std::string> warnings);
  void tell_notes(const std::vector<std::string> &notes);
  void found(const std::string &check, std::vector<Problem> problems);
  void found(const std::string &check, ProblemKind kind, const std::vector<std::string> &sentences);

  // keeper_look.cpp
  Status look();
  void look_at_vitals();
  void look_for_neighbours();
  void look_at_hooks();
  bool looks_on() const;
  void give_word();
  // keeper_converge.cpp
  bool converges() const;
  Status look_after_converging();
  std::vector<Problem> converging_problems();

  Pause pause(); // serves retransmissions while something else takes its time

  KeeperOptions options_;
  Config config_; // in force
  Meta meta_;     // as of the last look
  std::unique_ptr<KeeperLock> lock_;
  std::unique_ptr<RetransmitEvents> events_;
  std::unique_ptr<NetWatch> net_;
  std::unique_ptr<Expiry> expiry_;
  std::unique_ptr<SourceEnds> source_ends_;
  std::unique_ptr<Unjoinable> unjoinable_;
  std::unique_ptr<Companion> companion_;
  Fd signals_, ipsec_;
  std::unique_ptr<Loop> loop_;
  Loop::Timer alive_timer_ = 0, reload_timer_ = 0, expire_timer_ = 0, sweep_timer_ = 0,
              review_timer_ = 0, detach_timer_ = 0, look_timer_ = 0, blind_timer_ = 0,
              converge_timer_ = 0;
  Clock::time_point rest_until_; // no review before that
  uint64_t sweep_cpu_ns_ = 0;    // of the sweep that is under way
  uint64_t watchdog_ms_ = 0;
  bool attached_ = false; // there was a mirror to keep
  bool detached_ = false; // by another process
  bool leave_ = false;    // the mirror to the next keeper
  bool waiting_ = false;  // nothing is attached yet
  Problems problems_;
  Looks looks_;             // of the last minute
  uint64_t first_ns_ = 0;   // its look after the last gap, CLOCK_MONOTONIC; 0: there was none
  Clock::time_point seen_;  // when it last saw how the mirror fares
  Clock::time_point hooks_; // when it looked at the hooks last
  size_t running_ = 0;      // programs that it saw there
  Attempts attempts_;
  Owing owing_{kTargetPatienceNs, Owing::Looker::always};
  uint64_t converging_ns_ = 0; // since when a mapping converges, CLOCK_MONOTONIC; 0: none does
  std::time_t since_ = 0;      // when it took the mirror in its care; 0: not yet
  Clock::time_point word_;     // when it said last that it is there
  KeeperWordMap word_map_;     // of the mirror that it keeps; empty: not opened yet
};

} // namespace doppel
