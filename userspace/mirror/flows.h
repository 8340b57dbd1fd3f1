// SPDX-License-Identifier: Apache-2.0
// The flow table joined with the shadows.
#pragma once

#include <vector>

#include "userspace/util/error.h"
#include "userspace/view/snapshot.h"

namespace doppel {

Result<std::vector<FlowRow>> read_flows();

} // namespace doppel
