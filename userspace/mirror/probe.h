// SPDX-License-Identifier: Apache-2.0
// What this kernel and host can do, found by trying. Nothing here changes the host: what must be
// created to be tried is created in a network namespace of a thread that ends with the probe.
#pragma once

#include <vector>

#include "userspace/config/config.h"
#include "userspace/view/snapshot.h"

namespace doppel {

std::vector<ProbeRow> probe_host();

// The same for what a configuration wants of the host: its devices, and its targets, to which it
// connects (see reach.h).
std::vector<ProbeRow> probe_config(const Config &config);

} // namespace doppel
