// SPDX-License-Identifier: Apache-2.0
// The flow table joined with the shadows.
#pragma once

#include "userspace/util/error.h"
#include "userspace/view/flow_list.h"

namespace doppel {

// Fails if the query names a mapping that there is not. Not one moment's state: connections come
// and go while it is read.
Result<FlowList> read_flows(const FlowQuery &query = {});

} // namespace doppel
