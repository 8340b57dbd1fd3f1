// SPDX-License-Identifier: Apache-2.0
// A list of keys on disk: never in memory, as there may be a hundred million.
#pragma once

#include "userspace/util/error.h"
#include "userspace/util/fd.h"

namespace doppel::migrate {

// A file without a name in $TMPDIR or /var/tmp, gone when it is closed, also by a crash.
Result<Fd> open_spool();

} // namespace doppel::migrate
