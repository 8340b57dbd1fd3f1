// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "userspace/util/error.h"

namespace doppel {

// How many CPUs this host may have: as many values has a row of a map that is per CPU. Read once.
Result<size_t> possible_cpus();

} // namespace doppel
