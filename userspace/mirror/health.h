// SPDX-License-Identifier: Apache-2.0
// Whether there is a mirror to apply a change to.
#pragma once

#include <cstdint>
#include <optional>

#include "userspace/kernel/host_net.h"
#include "userspace/mirror/meta.h"

namespace doppel {

struct MirrorHealth {
  bool pins = false;
  bool complete = false;        // attach came to its end
  bool link = false;            // DP_LINK exists, whatever it is called by now
  bool link_up = false;         // it and its peer are up
  std::optional<Device> device; // DP_LINK
};
Result<MirrorHealth> read_health();

// ifindex of the link that the programs send to; 0: none is known.
uint32_t link_of(const Meta &meta);

} // namespace doppel
