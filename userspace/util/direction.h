// SPDX-License-Identifier: Apache-2.0
// The two sides of a device.
#pragma once

#include "doppel/abi.h"

namespace doppel {

// "ingress" or "egress", as tc(8) names the hooks.
constexpr const char *direction_name(dp_direction direction) {
  return direction == DP_DIR_INGRESS ? "ingress" : "egress";
}

} // namespace doppel
