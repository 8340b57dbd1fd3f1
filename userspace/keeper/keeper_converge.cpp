// SPDX-License-Identifier: Apache-2.0
// Mappings that converge: who does it, and whether it is done.
#include <algorithm>

#include "userspace/keeper/keeper.h"
#include "userspace/mirror/key_notes.h"
#include "userspace/util/clock.h"
#include "userspace/util/log.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
using namespace std::chrono_literals;

constexpr auto kConvergeLook = 1s;
constexpr uint64_t kPatienceNs = 10 * kSecondNs; // until the first word
constexpr uint64_t kDownNs = 5 * kSecondNs;      // a server that is started anew is no problem
constexpr uint64_t kLateNs = 60 * kSecondNs;     // a key that waits for longer

Problem problem(const std::string &mapping, const char *key, std::string what, std::string hint) {
  Problem p;
  p.kind = ProblemKind::converge;
  p.what = "mapping " + mapping + ": " + std::move(what);
  p.hint = std::move(hint);
  p.key = mapping + " " + key;
  return p;
}

// Of a mapping since whose begin `kept_ns` have passed.
void judge(const std::string &name, const dp_converge &row, uint64_t now, uint64_t kept_ns,
           std::vector<Problem> &problems) {
  if (!is_converging(row, now) && !row.down_ns) {
    if (kept_ns > kPatienceNs)
      problems.push_back(problem(name, "silent",
                                 "keys that may differ on the targets are not compared: nobody "
                                 "has done it for 10 s",
                                 "the log of doppel run tells how doppel converge ended"));
    return;
  }
  if (row.down_ns && now - std::min<uint64_t>(now, row.down_ns) > kDownNs)
    problems.push_back(problem(name, "down",
                               "keys that may differ on the targets are not compared: a server "
                               "cannot be asked",
                               "the log of doppel run tells which one, and why"));
  else if (row.oldest_ns && now - std::min<uint64_t>(now, row.oldest_ns) > kLateNs)
    problems.push_back(problem(name, "late",
                               "a key that may differ on a target has waited for longer than a "
                               "minute to be repaired",
                               "look at the target's lag, and at keys that are written to all the "
                               "time"));
}

} // namespace

bool Keeper::converges() const {
  return attached_ && !waiting_ &&
         std::any_of(config_.mappings.begin(), config_.mappings.end(),
                     [](const MappingConfig &m) { return m.converge; });
}

Status Keeper::look_after_converging() {
  if (converges())
    companion_->keep();
  else
    companion_->end();
  found(kConverge, converging_problems());
  loop_->set(converge_timer_, Clock::now() + kConvergeLook);
  return Unit{};
}

// What cannot be read now can be read the next time, or the mirror is going.
std::vector<Problem> Keeper::converging_problems() {
  std::vector<Problem> problems;
  const auto pins = Pins::locate();
  if (!converges())
    converging_ns_ = 0;
  if (!converges() || !pins || !pins->exist())
    return problems;
  const auto table = open_table(*pins, "converge", sizeof(dp_converge), Access::read);
  if (!table)
    return problems;
  const uint64_t now = monotonic_ns();
  if (!converging_ns_)
    converging_ns_ = now;
  for (const NamedMapping &named : meta_.mappings) {
    const auto wanted =
        std::find_if(config_.mappings.begin(), config_.mappings.end(),
                     [&](const MappingConfig &m) { return m.converge && m.name == named.name; });
    const auto row = read_converge(*table, named.row);
    // A reload may have made its row just now.
    const uint64_t begin = std::max({converging_ns_, named.since_ns, named.converges_ns});
    if (wanted != config_.mappings.end() && row)
      judge(named.name, *row, now, now - std::min(now, begin), problems);
  }
  return problems;
}

} // namespace doppel
