// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/host_view.h"

#include <net/if.h>
#include <net/if_arp.h>

#include <algorithm>
#include <fstream>

#include "doppel/names.h"
#include "userspace/kernel/host_net.h"
#include "userspace/kernel/tcx.h"

namespace doppel {
namespace {
// Null: there is none of that number.
DeviceView *find(std::vector<DeviceView> &devices, uint32_t ifindex) {
  auto d = std::find_if(devices.begin(), devices.end(),
                        [&](const DeviceView &v) { return v.ifindex == ifindex; });
  return d == devices.end() ? nullptr : &*d;
}

// What comes in by a port of these comes in by the bridge or bond as well; with a VRF it does not
// (l3mdev).
bool hands_up(const std::string &kind) {
  return kind == "bridge" || kind == "bond" || kind == "team" || kind == "openvswitch";
}

bool may_hear_answers(const Device &d, const std::vector<Device> &devices) {
  if (d.arphrd != ARPHRD_ETHER || !(d.flags & IFF_UP) || d.name == DP_LINK ||
      d.name == DP_LINK_PEER)
    return false;
  return std::none_of(devices.begin(), devices.end(), [&](const Device &m) {
    return d.master && m.ifindex == d.master && hands_up(m.kind);
  });
}

} // namespace

bool local_port_range(uint16_t *first, uint16_t *last) {
  std::ifstream f("/proc/sys/net/ipv4/ip_local_port_range");
  return static_cast<bool>(f >> *first >> *last);
}

Result<HostView> view_host(const Config &config) {
  auto nl = TRY(Rtnl::open());
  auto devices = TRY(list_devices(nl));
  HostView view;
  for (const auto &d : devices)
    view.devices.push_back({d.ifindex,
                            d.name,
                            d.arphrd == ARPHRD_ETHER || d.arphrd == ARPHRD_LOOPBACK,
                            (d.flags & IFF_UP) != 0,
                            d.mtu,
                            {},
                            may_hear_answers(d, devices)});
  auto addresses = TRY(list_addresses(nl));
  for (const auto &a : addresses)
    if (DeviceView *d = find(view.devices, a.ifindex))
      d->addresses.push_back(a.address);
  for (const auto &m : config.mappings) {
    for (const auto &t : m.targets) {
      auto found = TRY(route_to(nl, t.address));
      if (!found)
        continue;
      Route r = *found;
      if (const DeviceView *d = find(view.devices, r.oif)) {
        r.device = d->name;
        r.mtu = r.mtu ? std::min(r.mtu, d->mtu) : d->mtu;
        if (!r.source.is_set() && !d->addresses.empty())
          r.source = d->addresses.front();
      }
      view.routes[t.address.text()] = r;
    }
  }
  local_port_range(&view.local_port_first, &view.local_port_last);
  std::ifstream reserved("/proc/sys/net/ipv4/ip_local_reserved_ports");
  std::string list;
  std::getline(reserved, list);
  view.local_reserved = parse_port_list(list);
  view.has_tcx = tcx_supported();
  return view;
}

} // namespace doppel
