// SPDX-License-Identifier: Apache-2.0
// Whether a target that refused, or was given up, takes connections again: else only the next
// client would tell.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "userspace/mirror/maps.h"
#include "userspace/mirror/reach.h"
#include "userspace/view/vitals.h"

namespace doppel {

// Connects to the targets of which that is in doubt, as any program of this host would, and does
// not wait: what answers is found by the next look. So that no answer meets a closed socket, for
// which the kernel would send the target a RST, it goes on for ten seconds.
class Attempts {
public:
  // Fills v.tried: what has been answered up to now. Begins others, each two seconds after the
  // last.
  Status look(const Attached &attached, Vitals &v);
  bool pending() const { return round_.has_value(); }

private:
  struct Question;
  struct Round {
    std::vector<Question> questions;
    Connects connections;
    uint64_t begun_ns; // CLOCK_MONOTONIC
  };
  void take_answers(uint64_t now_ns);
  Status begin(const Attached &attached, const Vitals &v);
  bool wants_trying(const Vitals &v, const std::string &key) const;

  std::map<std::string, Tried> tried_; // by target_key()
  std::optional<Round> round_;

public:
  Attempts();
  ~Attempts();
};

} // namespace doppel
