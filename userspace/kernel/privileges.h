// SPDX-License-Identifier: Apache-2.0
// What this process is allowed to do.
#pragma once

#include <string>

#include "userspace/util/error.h"

namespace doppel {

// Root, or the capabilities that bpf(2) and rtnetlink want. Names what is missing. `loads`: the
// command gives programs to the verifier.
Status require_privileges(const std::string &command, bool loads = false);

// Whether this process has it in effect; the numbers are those of linux/capability.h.
bool has_capability(unsigned number);

} // namespace doppel
