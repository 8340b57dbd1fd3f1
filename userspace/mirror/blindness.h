// SPDX-License-Identifier: Apache-2.0
// Whether the mirror that runs sees what is asked of the services that it mirrors.
#pragma once

#include <string>
#include <vector>

#include "userspace/kernel/pins.h"
#include "userspace/kernel/rtnl.h"
#include "userspace/mirror/meta.h"
#include "userspace/util/error.h"

namespace doppel {

// Captured devices that are down, and what is asked and not seen: a sentence each, for `status` and
// for the keeper's problems. It lists the sockets of the mapped ports, and looks up each that was
// asked lately; in the network namespace of the mirror. Until a mirror is kBlindSeconds old it
// says nothing of requests.
Result<std::vector<std::string>> find_blindness(Rtnl &nl, const Pins &pins, const Meta &meta);

} // namespace doppel
