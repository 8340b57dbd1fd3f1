// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/renamed.h"

#include <algorithm>

#include "doppel/names.h"
#include "userspace/kernel/rtnl.h"
#include "userspace/mirror/programs.h"
#include "userspace/plan/plan_checks.h"

namespace doppel {
namespace {
bool captures(const Attachment &a, const std::string &device) {
  return a.device == device && (a.program == DP_PROG_INGRESS || a.program == DP_PROG_EGRESS);
}

const DeviceView *now_called(const HostView &host, const Pins &pins, const Meta &meta,
                             const std::string &name) {
  const uint32_t ifindex = captured_ifindex(meta, name);
  const auto d = std::find_if(host.devices.begin(), host.devices.end(),
                              [&](const DeviceView &v) { return v.ifindex == ifindex; });
  if (d == host.devices.end() || d->name == name || find_device(host, name) ||
      !still_captured(pins, meta, name))
    return nullptr;
  return &*d;
}

} // namespace

uint32_t captured_ifindex(const Meta &meta, const std::string &device) {
  for (const AttachedProgram &p : meta.programs)
    if (captures(p.what, device))
      return p.what.ifindex;
  return 0;
}

bool still_captured(const Pins &pins, const Meta &meta, const std::string &device) {
  std::vector<Attachment> all;
  for (const AttachedProgram &p : meta.programs)
    if (captures(p.what, device))
      all.push_back(p.what);
  auto nl = Rtnl::open();
  return nl && !find_running(*nl, pins, all).empty();
}

void call_as_captured(HostView &host, const Pins &pins, const Meta &meta) {
  for (const NamedMapping &m : meta.mappings) {
    for (const std::string &name : m.devices) {
      const DeviceView *d = now_called(host, pins, meta, name);
      if (!d)
        continue;
      for (auto &[target, route] : host.routes)
        if (route.oif == d->ifindex)
          route.device = name;
      host.devices[static_cast<size_t>(d - host.devices.data())].name = name;
    }
  }
}

void follow_new_name(const HostView &host, const Pins &pins, const Meta &meta,
                     NamedMapping &mapping) {
  for (std::string &name : mapping.devices)
    if (const DeviceView *d = now_called(host, pins, meta, name))
      name = d->name;
}

} // namespace doppel
