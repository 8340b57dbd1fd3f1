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
  auto meta = read_meta(host.pins);
  if (!meta)
    return health;
  health.complete = meta->complete;
  auto link = find_device(host.nl, DP_LINK), peer = find_device(host.nl, DP_LINK_PEER);
  if (!link || !peer)
    return link ? peer.errors() : link.errors();
  health.link = *link && *peer && (*link)->ifindex == link_of(*meta);
  health.link_up = health.link && (*link)->flags & (*peer)->flags & IFF_UP;
  return health;
}

} // namespace doppel
