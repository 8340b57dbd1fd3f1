// SPDX-License-Identifier: Apache-2.0
// The rows of `port_map` and `address_map`, which lead from a port, or a port of an address, to a
// mapping.
#pragma once

#include <vector>

#include "userspace/plan/plan.h"
#include "userspace/util/error.h"

namespace doppel {

bool has_address(const dp_address_key &key);

// Written so that the packets under way see what was before or what is then.
Status put_row(int port_map, int address_map, const PortRow &row);

// Those of `keys` that there are.
Status drop_rows(int port_map, int address_map, const std::vector<dp_address_key> &keys);

Result<std::vector<PortRow>> read_rows(int port_map, int address_map);

} // namespace doppel
