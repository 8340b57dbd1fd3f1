// SPDX-License-Identifier: Apache-2.0
// Reads for `Owed` what the shadows of a mirror are like.
#pragma once

#include <cstdint>

#include "userspace/mirror/maps.h"
#include "userspace/view/owed.h"
#include "userspace/view/vitals.h"

namespace doppel {

// All shadows are read each two seconds, and by who looks all the time more seldom where they are
// so many that this would take more than a hundredth of a CPU; between that, only those that were
// owed an answer, where they are few. Where no client has said anything since, there are no others.
class Owing {
public:
  enum class Looker { once, always };
  // `patience_ns`: for how long an answer must have been owed to be told.
  Owing(uint64_t patience_ns, Looker looker) : patience_ns_(patience_ns), looker_(looker) {}
  // Fills v.owed.
  Status look(const Attached &attached, Vitals &v);
  // Another look, within the time that is waited for answers, may tell more.
  bool pending() const { return pending_; }

private:
  uint64_t patience_ns_, next_ns_ = 0;
  uint64_t observed_ = 0; // bytes, when all were read
  Looker looker_;
  bool pending_ = false;
  Owed owed_;
};

} // namespace doppel
