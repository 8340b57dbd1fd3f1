// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/health.h"

#include <net/if.h>

#include "doppel/names.h"
#include "userspace/kernel/host.h"
#include "userspace/kernel/host_net.h"

namespace doppel {
uint32_t link_of(const Meta &meta) {
  for (const AttachedProgram &p : meta.programs)
    if (p.what.program == DP_PROG_DELIVER)
      return p.what.ifindex;
  return 0;
}

Result<MirrorHealth> read_health() {
  auto host = TRY(Host::open());
  MirrorHealth health;
  health.pins = host.pins.exist();
  if (!health.pins)
    return health;
  const auto found = TRY(find_meta(host.pins));
  const auto &meta = found.meta;
  if (!meta)
    return health;
  health.complete = meta->complete;
  health.device = TRY(find_device(host.nl, link_of(*meta)));
  if (!health.device)
    return health;
  const auto peer = TRY(find_device(host.nl, health.device->peer));
  health.link = peer.has_value();
  health.link_up = peer && health.device->flags & peer->flags & IFF_UP;
  return health;
}

} // namespace doppel
