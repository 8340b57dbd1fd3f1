// SPDX-License-Identifier: Apache-2.0
// Starts a mirror on this host.
#pragma once

#include <string>
#include <vector>

#include "userspace/plan/plan.h"
#include "userspace/util/error.h"

namespace doppel {

// All or nothing: on an error everything that was made is removed again. Fails if a data plane of
// ours is attached already, or remains of one are there. Holds the lock on the pins.
// The warnings of the plan are not repeated.
struct AttachReport {
  std::vector<std::string> neighbours, hooks; // what they gave cause to warn of
  std::vector<std::string> translated;        // targets that copies do not reach, see reach.h
};
Result<AttachReport> attach(const Plan &plan, const Config &config);

} // namespace doppel
