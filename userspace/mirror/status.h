// SPDX-License-Identifier: Apache-2.0
// What is attached where, and what is missing.
#pragma once

#include "userspace/util/error.h"
#include "userspace/view/snapshot.h"

namespace doppel {

Result<StatusView> read_status();

} // namespace doppel
