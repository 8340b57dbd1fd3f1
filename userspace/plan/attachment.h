// SPDX-License-Identifier: Apache-2.0
// Which program belongs on which hook.
#pragma once

#include <cstdint>
#include <string>

#include "doppel/abi.h"
#include "userspace/util/direction.h"

namespace doppel {

// A TC hook of a device.
struct Hook {
  uint32_t ifindex = 0;
  std::string device;
  dp_direction direction = DP_DIR_INGRESS;
  std::string text() const { return "device " + device + " " + direction_name(direction); }
};

// A program that is wanted on a hook. Return comes before capture on the same hook.
struct Attachment {
  std::string program; // DP_PROG_*
  std::string device;
  uint32_t ifindex = 0;
  dp_direction direction = DP_DIR_INGRESS;
  // On a device that no mapping names and no route leads to, but answers may come in by: the mirror
  // does not depend on it, and the device may go as it came.
  bool optional = false;

  Hook hook() const { return {ifindex, device, direction}; }
  // The same program on the same hook. A device keeps its ifindex when it is renamed.
  friend bool operator==(const Attachment &a, const Attachment &b) {
    return a.program == b.program && a.ifindex == b.ifindex && a.direction == b.direction;
  }
};

} // namespace doppel
