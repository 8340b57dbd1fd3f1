// SPDX-License-Identifier: Apache-2.0
// One warm a target on this host (in this network namespace): the second add of two would take the
// first one's copy for the mirror's.
#pragma once

#include "userspace/memcached/connection.h"
#include "userspace/util/error.h"
#include "userspace/util/fd.h"

namespace doppel::migrate {

// Held until the Fd is closed, also by a crash: an abstract Unix socket (unix(7)), which needs no
// directory that all users may write to. An error tells who has it.
Result<Fd> lock_target(const memcached::Connection &target);

} // namespace doppel::migrate
