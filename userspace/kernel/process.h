// SPDX-License-Identifier: Apache-2.0
// Other processes of this host.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace doppel {

// How long ago that process began, time of suspension included; UINT64_MAX: not known.
uint64_t process_age_ns(pid_t pid);

// By a signal such as SIGSTOP, or by who traces it.
bool process_is_stopped(pid_t pid);

} // namespace doppel
