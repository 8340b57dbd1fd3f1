// SPDX-License-Identifier: Apache-2.0
// `doppel run`: does for the data plane what needs a clock or an eye on the host. The data plane
// forwards without it; what it misses meanwhile is retransmission timeouts and repairs.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "userspace/config/config.h"
#include "userspace/keeper/expiry.h"
#include "userspace/keeper/keeper_lock.h"
#include "userspace/keeper/netwatch.h"
#include "userspace/keeper/retransmit_events.h"
#include "userspace/mirror/apply.h"

namespace doppel {

struct KeeperOptions {
  std::function<Result<Config>()> load; // the configuration as it is now
  bool from_file = false;               // false: reloading it brings nothing new
  uint32_t drain_ms = 2000;
};

class Keeper {
public:
  explicit Keeper(KeeperOptions options) : options_(std::move(options)) {}

  // Attaches, or adopts what is attached, and keeps it until a signal says to stop. Logs what it
  // does. The errors are those for which it could not start, or for which it had to give up.
  Status run();

private:
  using Clock = std::chrono::steady_clock;

  // keeper_start.cpp
  Status start();
  Status adopt();
  Status attach_fresh();
  Status attach_anew(const std::string &why);
  Result<MirrorHealth> settled_health() const;
  std::string status() const;
  Status stop();

  // keeper.cpp
  Status listen();
  Status loop();
  int patience() const; // ms until something is due
  Status wait(int timeout_ms);
  Status read_signals();
  Status do_what_is_due();
  Status expire();
  Status review();
  void review_soon();
  void tell(const Applied &applied);
  void hold(const Errors &errors, const std::vector<std::string> &warnings);
  void reload();
  void record(const Errors &errors, const std::string &text);
  Pause pause(); // serves retransmissions while something else takes its time

  KeeperOptions options_;
  Config config_; // in force
  Meta meta_;     // as of the last look
  std::unique_ptr<KeeperLock> lock_;
  std::unique_ptr<RetransmitEvents> events_;
  std::unique_ptr<NetWatch> net_;
  std::unique_ptr<Expiry> expiry_;
  Fd epoll_, signals_;
  bool stop_ = false, reload_ = false, detached_ = false;
  std::set<std::string> problems_;                         // that were told and still last
  Clock::time_point review_at_ = Clock::time_point::max(); // because something changed
  Clock::time_point rest_until_, check_at_, expire_at_, alive_at_;
  uint64_t watchdog_ms_ = 0;
};

} // namespace doppel
