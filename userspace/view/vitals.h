// SPDX-License-Identifier: Apache-2.0
// What a mirror is judged by, as plain data, and the judgement. Pure.
#pragma once

#include <cstdint>
#include <ctime>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "userspace/view/owed.h"
#include "userspace/view/problem.h"
#include "userspace/view/snapshot.h"

namespace doppel {

struct DeviceVitals {
  std::string name; // as the mirror knows it
  bool present = true, up = true, carrier = true;
  std::string now_called = {}; // empty: so
};

// A connection of this host's own to a target.
struct Tried {
  uint64_t at_ns = 0;                     // CLOCK_MONOTONIC
  bool accepted = false, refused = false; // neither: no answer
};

// One look at an attached mirror.
struct Vitals {
  uint64_t now_ns = 0;               // CLOCK_MONOTONIC
  std::time_t now = 0;               // the same moment
  std::time_t attached = 0;          // when the mirror was attached
  uint64_t attached_ns = 0;          // the same moment, CLOCK_MONOTONIC; 0: not known
  bool paused = false;               // see dp_control
  uint32_t flow_rows = 0;            // what the flow table can hold
  std::vector<DeviceVitals> devices; // those that are captured
  Counters counters;
  std::map<std::string, Tried> tried;      // by target_key(): those that are in doubt
  std::map<std::string, OwedAnswers> owed; // by target_key(): those that owe some for too long
};

std::string target_key(const std::string &mapping, const std::string &target);

// When that target refused, or was given up, if it has taken nothing since: whether it is back only
// a connection can tell. 0: there is no doubt.
uint64_t in_doubt_since(const Vitals &v, const std::string &target_key);

// Looks at the same mirror, the oldest first.
using Looks = std::deque<Vitals>;

// How long a target may take for something before it is told. Longer than a retransmission or two
// takes, and with a look or two still within ten seconds.
inline constexpr uint64_t kTargetPatienceNs = 4'000'000'000;

// How long something must be seen before it is told: an answer that is under way is no silence.
inline constexpr uint64_t kLookNs = 2'000'000'000;

// `before`: what was found the last time. A pool that is nearly full stays so until it has some
// room again, so that it is not told each time that it crosses the line.
// In order.
std::vector<Problem> judge(const Looks &looks, const std::vector<Problem> &before = {});

// Up to kLookNs after the first one: the last look has cause for concern, and only another one will
// tell, or it `waits` for something else.
bool wants_another_look(const Looks &looks, bool waits = false);

// Each target of the last look.
std::vector<TargetHealth> judge_targets(const Looks &looks);

// Bytes lost within the last minute, as far as the looks reach back;.
uint64_t lost_in_a_minute(const Looks &looks, const std::string &mapping,
                          const std::string &target);

} // namespace doppel
