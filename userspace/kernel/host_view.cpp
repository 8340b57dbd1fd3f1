// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/host_view.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <net/if_arp.h>

#include <algorithm>
#include <fstream>
#include <tuple>

#include "doppel/names.h"
#include "userspace/kernel/host_net.h"
#include "userspace/kernel/ipsec.h"
#include "userspace/kernel/netfilter.h"
#include "userspace/kernel/sock_diag.h"
#include "userspace/kernel/tcx.h"
#include "userspace/kernel/via.h"

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

DeviceView view(const Device &d, const std::vector<Device> &all) {
  DeviceView v;
  v.ifindex = d.ifindex;
  v.name = d.name;
  v.ethernet = d.arphrd == ARPHRD_ETHER || d.arphrd == ARPHRD_LOOPBACK;
  v.up = (d.flags & IFF_UP) != 0;
  v.mtu = d.mtu;
  v.kind = d.kind;
  v.mac = d.mac;
  v.carrier = d.carrier;
  v.master = d.master;
  v.lower = d.peer;
  v.elsewhere = d.elsewhere;
  v.tunnel = d.tunnel;
  v.answers = may_hear_answers(d, all);
  return v;
}

// Not set: there is none of that family.
Address first_of(const std::vector<Address> &addresses, Family family) {
  const auto a = std::find_if(addresses.begin(), addresses.end(),
                              [&](const Address &one) { return one.family() == family; });
  return a == addresses.end() ? Address{} : *a;
}

bool in(const std::vector<PortRange> &ranges, unsigned port) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](PortRange r) { return r.first <= port && port <= r.last; });
}

// Of use where they can be had: a kernel that cannot list its sockets says nothing.
void view_sockets(const Config &config, Rtnl &nl, HostView &host) {
  SocketPorts served, wanted;
  for (const MappingConfig &m : config.mappings) {
    served.local.push_back({m.port_first, m.port_last});
    if (m.direction == DP_DIR_EGRESS)
      wanted.remote.push_back({m.port_first, m.port_last});
  }
  wanted.local = served.local;
  auto listening = list_listeners(served.local);
  Via via(host.devices, nl);
  std::map<std::tuple<bool, uint16_t, uint32_t, Address>, uint32_t> count;
  const auto connected = each_tcp_socket(wanted, [&](const TcpSocket &s) {
    const Address local{s.local}, remote{s.remote};
    if (const uint16_t port = ntohs(s.local_port); in(wanted.local, port)) {
      const uint32_t own = via.of_server(local, remote, s.ifindex),
                     back = via.to(remote, s.ifindex);
      count[{false, port, own, local}]++;
      if (back != own)
        count[{false, port, back, local}]++;
    }
    if (const uint16_t port = ntohs(s.remote_port); in(wanted.remote, port))
      count[{true, port, via.to(remote, s.ifindex), remote}]++;
  });
  if (!listening || !connected)
    return;
  host.listeners = std::move(*listening);
  for (const auto &[key, n] : count) {
    const auto &[asked, port, ifindex, server] = key;
    if (ifindex)
      host.connections.push_back({asked, port, ifindex, n, server});
  }
}

} // namespace

bool view_local_ports(HostView &view) {
  std::ifstream range("/proc/sys/net/ipv4/ip_local_port_range");
  std::ifstream reserved("/proc/sys/net/ipv4/ip_local_reserved_ports");
  std::string list;
  std::getline(reserved, list);
  view.local_reserved = parse_port_list(list);
  return static_cast<bool>(range >> view.local_port_first >> view.local_port_last);
}

Result<std::vector<DeviceView>> view_devices(Rtnl &nl) {
  std::vector<DeviceView> views;
  auto devices = TRY(list_devices(nl));
  views.reserve(devices.size());
  for (const auto &d : devices)
    views.push_back(view(d, devices));
  auto addresses = TRY(list_addresses(nl));
  for (const auto &a : addresses)
    if (DeviceView *d = find(views, a.ifindex))
      (needs_scope(a.address) ? d->link_local : d->addresses).push_back(a.address);
  return views;
}

Result<std::vector<Listener>> list_listeners(const std::vector<PortRange> &ports) {
  std::vector<Listener> listeners;
  TRY(each_tcp_socket(
      {ports, {}},
      [&](const TcpSocket &s) {
        Listener l{{}, ntohs(s.local_port), s.ifindex, !s.v6_only, s.v6};
        if (const Address a{s.local}; !is_any(a))
          l.address = a;
        listeners.push_back(l);
      },
      SocketKind::listening));
  return listeners;
}

Result<HostView> view_host(const Config &config, ViewOf what) {
  auto nl = TRY(Rtnl::open());
  HostView view;
  view.devices = TRY(view_devices(nl));
  for (const auto &m : config.mappings) {
    for (const auto &t : m.targets) {
      auto found = TRY(route_to(nl, t.address));
      if (!found)
        continue;
      Route r = *found;
      if (const DeviceView *d = find(view.devices, r.oif)) {
        r.device = d->name;
        r.mtu = r.mtu ? std::min(r.mtu, d->mtu) : d->mtu;
        if (!r.source.is_set())
          r.source = first_of(d->addresses, t.address.family());
      }
      view.routes[t.address.text()] = r;
    }
  }
  if (what == ViewOf::everything)
    view_sockets(config, nl, view);
  if (const auto policies = list_ipsec_policies()) {
    view.ipsec = policies->out;
    view.ipsec_blocks = policies->blocks;
  }
  if (what == ViewOf::everything)
    view.output_rules = output_rules(target_families(config)).filters;
  view_local_ports(view);
  view.has_tcx = tcx_supported();
  return view;
}

} // namespace doppel
