// SPDX-License-Identifier: Apache-2.0
// A captured device that was renamed is captured as before: the programs are on the device, and the
// data plane knows it by its number. A device that only took the number of one that is gone has
// none of the programs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/mirror/meta.h"
#include "userspace/plan/plan.h"

namespace doppel {

// The number of the device that the mirror captures under that name; 0: there is none.
uint32_t captured_ifindex(const Meta &meta, const std::string &device);

// Whether a program that captures for that name still runs on the device with its number.
bool still_captured(const Pins &pins, const Meta &meta, const std::string &device);

// Gives renamed devices the names back under which the mirror captures them, unless another device
// has such a name by now.
void call_as_captured(HostView &host, const Pins &pins, const Meta &meta);

// The other way round: the mapping names its device as it is called now.
void follow_new_name(const HostView &host, const Pins &pins, const Meta &meta,
                     NamedMapping &mapping);

} // namespace doppel
