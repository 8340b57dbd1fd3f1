// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/renamed.h"

#include <algorithm>

#include "doppel/names.h"
#include "userspace/plan/plan_checks.h"

namespace doppel {
namespace {
const DeviceView *now_called(const HostView &host, const Meta &meta, const std::string &name) {
  const uint32_t ifindex = captured_ifindex(meta, name);
  const auto d = std::find_if(host.devices.begin(), host.devices.end(),
                              [&](const DeviceView &v) { return v.ifindex == ifindex; });
  if (d == host.devices.end() || d->name == name || find_device(host, name))
    return nullptr;
  return &*d;
}

} // namespace

uint32_t captured_ifindex(const Meta &meta, const std::string &device) {
  for (const AttachedProgram &p : meta.programs)
    if (p.what.device == device &&
        (p.what.program == DP_PROG_INGRESS || p.what.program == DP_PROG_EGRESS))
      return p.what.ifindex;
  return 0;
}

void call_as_captured(HostView &host, const Meta &meta) {
  for (const NamedMapping &m : meta.mappings) {
    const DeviceView *d = now_called(host, meta, m.device);
    if (!d)
      continue;
    for (auto &[target, route] : host.routes)
      if (route.oif == d->ifindex)
        route.device = m.device;
    host.devices[static_cast<size_t>(d - host.devices.data())].name = m.device;
  }
}

void follow_new_name(const HostView &host, const Meta &meta, NamedMapping &mapping) {
  if (const DeviceView *d = now_called(host, meta, mapping.device))
    mapping.device = d->name;
}

} // namespace doppel
