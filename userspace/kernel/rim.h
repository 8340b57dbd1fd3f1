// SPDX-License-Identifier: Apache-2.0
// The thin rim that touches the kernel. Each function names the object that failed in its Error.
// Mutating functions hold an exclusive flock on the pin directory of bpffs while they work.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/plan/plan.h"
#include "userspace/util/error.h"
#include "userspace/util/pause.h"
#include "userspace/view/snapshot.h"

namespace doppel {

// Settings of the process; main sets them before its first other call.
struct RimOptions {
  std::string bpffs; // mount point to use; empty: $DOPPEL_BPFFS, else /sys/fs/bpf
  int verbosity = 0; // 1: libbpf's warnings on standard error, 2: its debugging output too
};
RimOptions &rim_options();

// netlink.cpp
Result<HostView> view_host(const Config &config);

// attach.cpp. All or nothing: on an error everything that was made is removed again.
// Fails if a data plane of ours is attached already, or remains of one are there.
// Returns its own warnings; those of the plan are not repeated.
Result<std::vector<std::string>> attach(const Plan &plan, const Config &config);

// Removes everything of ours, also what only half exists; needs no state file.
// Drains first: FIN after the last byte of each shadow, then waits, at most drain_ms.
struct DetachReport {
  bool was_attached = false;
  uint32_t closed = 0, reset = 0; // shadows
  Counters last;                  // final ledger
};
Result<DetachReport> detach(uint32_t drain_ms, const Pause &pause = {});

Result<StatusView> read_status();
Result<Counters> read_counters();
Result<std::vector<FlowRow>> read_flows();
std::vector<ProbeRow> probe_host();

} // namespace doppel
