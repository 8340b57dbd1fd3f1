// SPDX-License-Identifier: Apache-2.0
// Whether a target that refused, or was given up, takes connections again: else only the next
// client would tell.
#pragma once

#include <map>
#include <string>

#include "userspace/mirror/maps.h"
#include "userspace/mirror/reach.h"
#include "userspace/view/vitals.h"

namespace doppel {

// Connects to the targets of which that is in doubt, as any program of this host would, and does
// not wait: what answers is found by the next look. So that no answer meets a closed socket, for
// which the kernel would send the target a RST, each goes on for ten seconds. Of a range one port
// is enough, as one is for what clients find (judge_target()): 16 are asked at once, and then
// the others.
class Attempts {
public:
  Attempts();
  ~Attempts();
  // Fills v.tried: what has been answered up to now. Begins others, each two seconds after the
  // last, with no more than 256 sockets in all: the targets that are left have the next look.
  Status look(const Attached &attached, Vitals &v);
  bool pending() const { return !open_.empty(); }

private:
  struct One;
  void take_answers(uint64_t now_ns);
  Status begin(const Attached &attached, const Vitals &v);
  bool wants_trying(const Vitals &v, const std::string &key) const;

  std::map<std::string, Tried> tried_; // by target_key()
  std::map<std::string, One> open_;
  size_t sockets_ = 0;
  std::string after_; // the last target that had a turn
};

} // namespace doppel
