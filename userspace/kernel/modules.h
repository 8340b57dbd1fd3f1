// SPDX-License-Identifier: Apache-2.0
// Parts of the kernel that a question would load.
#pragma once

#include <string>

namespace doppel {

// Whether that part of the kernel is a module which is not loaded: to ask it something over netlink
// would load it. `name`: with underscores, as in /proc/modules.
bool module_is_idle(const std::string &name);

} // namespace doppel
