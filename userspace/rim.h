// SPDX-License-Identifier: Apache-2.0
// The thin rim that touches the kernel. Each function names the object that failed in its Error.
// Mutating functions hold an exclusive flock on the pin directory of bpffs while they work.
#pragma once

#include <vector>

#include "userspace/error.h"
#include "userspace/plan.h"
#include "userspace/snapshot.h"

namespace doppel {

// netlink.cpp
Result<HostView> view_host(const Config &config);

// attach.cpp. All or nothing: on an error everything that was made is removed again.
// Fails if a data plane of ours is attached already.
Result<std::vector<std::string>> attach(const Plan &plan, const Config &config);  // warnings

// Removes everything of ours, also what only half exists; needs no state file.
// Drains first: FIN after the last byte of each shadow, then waits, at most drain_ms.
struct DetachReport {
  bool was_attached = false;
  uint32_t closed = 0, reset = 0;  // shadows
  Counters last;                   // final ledger
};
Result<DetachReport> detach(uint32_t drain_ms);

Result<StatusView> read_status();
Result<Counters> read_counters();
Result<std::vector<FlowRow>> read_flows();
std::vector<ProbeRow> probe_host();

}  // namespace doppel
