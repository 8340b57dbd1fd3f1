// SPDX-License-Identifier: Apache-2.0
// Which devices the names and patterns of a configuration stand for on a host. Pure.
#pragma once

#include "userspace/config/config.h"
#include "userspace/plan/plan.h"

namespace doppel {

// The same with each device by its name and once, in the order of the lists; what fits a pattern,
// in the order of the host's. No pattern stands for doppel's own devices, or for those without an
// Ethernet header. A pattern that nothing fits stands for nothing; where that leaves a mapping
// without a device, an error for each is appended.
Config named_devices(const Config &config, const HostView &host, Errors &errors);

// The same as it is without what the host lacks, in mappings of which some device is there. For
// each name an error is appended.
Config present_devices(const Config &config, const HostView &host, Errors &missing);

} // namespace doppel
