// SPDX-License-Identifier: Apache-2.0
// Lets the servers of an attached mirror converge: docs/converge.md. A process of its own beside
// the keeper, which has to stay on time.
#pragma once

#include "userspace/memcached/access.h"
#include "userspace/util/error.h"

namespace doppel::migrate {

// Until a signal ends the process, or the mirror is another one or gone. Errors: the mirror's maps
// cannot be read.
Status converge(const memcached::Access &access);

} // namespace doppel::migrate
