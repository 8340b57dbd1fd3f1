// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/host_net.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>

#include "userspace/kernel/compat.h"
#include "userspace/kernel/rim.h"
#include "userspace/kernel/tcx.h"
#include "userspace/util/fd.h"

namespace doppel {

namespace {

constexpr unsigned kPollMs = 20;

Address v4_address(const void *be32) {
  Address a;
  a.raw.w[2] = htonl(0xffff);
  std::memcpy(&a.raw.w[3], be32, 4);
  return a;
}

bool is_unset(const Address &a) { return !(a.raw.w[0] | a.raw.w[1] | a.raw.w[2] | a.raw.w[3]); }

std::string link_kind(const nlattr *info) {
  for (const nlattr *a : nested(info)) {
    if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
      return mnl_attr_get_str(a);
  }
  return {};
}

Device parse_device(const nlmsghdr *h) {
  auto *ifi = static_cast<const ifinfomsg *>(mnl_nlmsg_get_payload(h));
  Device d;
  d.ifindex = static_cast<uint32_t>(ifi->ifi_index);
  d.arphrd = ifi->ifi_type;
  d.flags = ifi->ifi_flags;
  bool other_netns = false;
  for (const nlattr *a : attributes(h, sizeof(*ifi))) {
    switch (mnl_attr_get_type(a)) {
    case IFLA_IFNAME:
      d.name = mnl_attr_get_str(a);
      break;
    case IFLA_MTU:
      d.mtu = mnl_attr_get_u32(a);
      break;
    case IFLA_IFALIAS:
      d.alias = mnl_attr_get_str(a);
      break;
    case IFLA_LINK:
      d.peer = mnl_attr_get_u32(a);
      break;
    case IFLA_LINK_NETNSID:
      other_netns = true;
      break;
    case IFLA_LINKINFO:
      d.kind = link_kind(a);
      break;
    }
  }
  if (other_netns)
    d.peer = 0; // an index of another namespace says nothing here
  return d;
}

Status add_addresses(Rtnl &nl, std::vector<DeviceView> *devices) {
  RtnlRequest q(RTM_GETADDR, NLM_F_DUMP);
  q.extra<ifaddrmsg>()->ifa_family = AF_INET;
  std::vector<RtnlMessage> replies;
  if (auto s = nl.run(q, &replies); !s.ok())
    return rtnl_error("addresses of this host", "cannot be listed", s);
  for (const auto &m : replies) {
    auto *ifa = static_cast<const ifaddrmsg *>(mnl_nlmsg_get_payload(m.header()));
    const nlattr *local = nullptr;
    for (const nlattr *a : attributes(m.header(), sizeof(*ifa))) {
      uint16_t type = mnl_attr_get_type(a);
      // On a point-to-point device IFA_ADDRESS is the other end's; IFA_LOCAL is always ours.
      if (type == IFA_LOCAL || (type == IFA_ADDRESS && !local))
        local = a;
    }
    auto d = std::find_if(devices->begin(), devices->end(),
                          [&](const DeviceView &v) { return v.ifindex == ifa->ifa_index; });
    if (local && mnl_attr_get_payload_len(local) == 4 && d != devices->end())
      d->addresses.push_back(v4_address(mnl_attr_get_payload(local)));
  }
  return Unit{};
}

void parse_route_metrics(const nlattr *metrics, Route *r) {
  for (const nlattr *a : nested(metrics)) {
    if (mnl_attr_get_type(a) == RTAX_MTU)
      r->mtu = mnl_attr_get_u32(a);
  }
}

Route parse_route(const nlmsghdr *h) {
  auto *rtm = static_cast<const rtmsg *>(mnl_nlmsg_get_payload(h));
  Route r;
  r.local = rtm->rtm_type == RTN_LOCAL;
  for (const nlattr *a : attributes(h, sizeof(*rtm))) {
    switch (mnl_attr_get_type(a)) {
    case RTA_OIF:
      r.oif = mnl_attr_get_u32(a);
      break;
    case RTA_PREFSRC:
      r.source = v4_address(mnl_attr_get_payload(a));
      break;
    case RTA_GATEWAY:
      r.gateway = v4_address(mnl_attr_get_payload(a));
      break;
    case RTA_VIA:
    case RTA_ENCAP:
      r.plain = false;
      break;
    case RTA_METRICS:
      parse_route_metrics(a, &r);
      break;
    }
  }
  return r;
}

bool usable_route_type(const nlmsghdr *h) {
  auto type = static_cast<const rtmsg *>(mnl_nlmsg_get_payload(h))->rtm_type;
  return type == RTN_UNICAST || type == RTN_LOCAL;
}

void put_neighbour(RtnlRequest &q, const NextHop &hop, uint8_t flags) {
  auto *n = q.extra<ndmsg>();
  n->ndm_family = AF_INET;
  n->ndm_ifindex = static_cast<int>(hop.ifindex);
  n->ndm_flags = flags;
  mnl_attr_put_u32(q.header(), NDA_DST, hop.address.raw.w[3]);
}

bool is_resolved(Rtnl &nl, const NextHop &hop) {
  RtnlRequest q(RTM_GETNEIGH, 0); // a get, not a dump: Linux 5.0, commit 82cbb5c631a0
  put_neighbour(q, hop, 0);
  std::vector<RtnlMessage> replies;
  if (!nl.run(q, &replies).ok() || replies.empty())
    return false;
  constexpr uint16_t valid =
      NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY;
  return static_cast<const ndmsg *>(mnl_nlmsg_get_payload(replies[0].header()))->ndm_state & valid;
}

} // namespace

Result<std::vector<Device>> list_devices(Rtnl &nl) {
  RtnlRequest q(RTM_GETLINK, NLM_F_DUMP);
  q.extra<ifinfomsg>();
  std::vector<RtnlMessage> replies;
  if (auto s = nl.run(q, &replies); !s.ok())
    return rtnl_error("devices of this host", "cannot be listed", s);
  std::vector<Device> devices;
  devices.reserve(replies.size());
  for (const auto &m : replies)
    devices.push_back(parse_device(m.header()));
  return devices;
}

Result<std::optional<Device>> find_device(Rtnl &nl, const std::string &name) {
  std::optional<Device> found;
  RtnlRequest q(RTM_GETLINK, 0);
  q.extra<ifinfomsg>();
  mnl_attr_put_strz(q.header(), IFLA_IFNAME, name.c_str());
  std::vector<RtnlMessage> replies;
  RtnlStatus s = nl.run(q, &replies);
  // ERANGE: longer than any device's name can be.
  if (s.code == ENODEV || s.code == ERANGE)
    return found;
  if (!s.ok() || replies.empty())
    return rtnl_error("device " + name, "cannot be looked up", s);
  found = parse_device(replies[0].header());
  return found;
}

Result<std::optional<Route>> route_to(Rtnl &nl, const Address &target) {
  std::optional<Route> found;
  if (!target.is_v4())
    return found;
  RtnlRequest q(RTM_GETROUTE, 0);
  auto *rtm = q.extra<rtmsg>();
  rtm->rtm_family = AF_INET;
  rtm->rtm_dst_len = 32;
  mnl_attr_put_u32(q.header(), RTA_DST, target.raw.w[3]);
  std::vector<RtnlMessage> replies;
  RtnlStatus s = nl.run(q, &replies);
  // fib_table_lookup() reports unreachable, blackhole (EINVAL) and prohibit routes this way.
  if (s.code == ENETUNREACH || s.code == EHOSTUNREACH || s.code == EACCES || s.code == EINVAL)
    return found;
  if (!s.ok() || replies.empty())
    return rtnl_error("route to " + target.text(), "cannot be looked up", s);
  if (usable_route_type(replies[0].header()))
    found = parse_route(replies[0].header());
  return found;
}

bool local_port_range(uint16_t *first, uint16_t *last) {
  std::ifstream f("/proc/sys/net/ipv4/ip_local_port_range");
  return static_cast<bool>(f >> *first >> *last);
}

NetnsId current_netns() {
  NetnsId id;
  struct stat st;
  if (::stat("/proc/thread-self/ns/net", &st) == 0)
    id.inode = st.st_ino;
  Fd s(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  socklen_t len = sizeof(id.cookie);
  if (!s || ::getsockopt(s.get(), SOL_SOCKET, compat::kSoNetnsCookie, &id.cookie, &len))
    id.cookie = 0;
  return id;
}

std::vector<NextHop> resolve_neighbours(Rtnl &nl, const std::vector<NextHop> &hops,
                                        unsigned timeout_ms) {
  std::vector<NextHop> left = hops;
  // Ask only for what is unknown: NTF_USE takes NUD_PERMANENT away from an entry that an
  // administrator made (__neigh_update(), since Linux 5.16).
  std::erase_if(left, [&](const NextHop &hop) { return is_resolved(nl, hop); });
  for (const auto &hop : left) {
    RtnlRequest q(RTM_NEWNEIGH, NLM_F_CREATE);
    put_neighbour(q, hop, NTF_USE);
    nl.run(q); // a failure shows below: the entry stays unresolved
  }
  using Clock = std::chrono::steady_clock;
  auto until = Clock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    std::erase_if(left, [&](const NextHop &hop) { return is_resolved(nl, hop); });
    if (left.empty() || Clock::now() >= until)
      return left;
    std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
  }
}

Result<HostView> view_host(const Config &config) {
  auto nl = Rtnl::open();
  if (!nl)
    return nl.errors();
  auto devices = list_devices(*nl);
  if (!devices)
    return devices.errors();
  HostView view;
  for (const auto &d : *devices)
    view.devices.push_back({d.ifindex,
                            d.name,
                            d.arphrd == ARPHRD_ETHER || d.arphrd == ARPHRD_LOOPBACK,
                            (d.flags & IFF_UP) != 0,
                            d.mtu,
                            {}});
  if (auto s = add_addresses(*nl, &view.devices); !s)
    return s.errors();
  for (const auto &m : config.mappings) {
    for (const auto &t : m.targets) {
      auto found = route_to(*nl, t.address);
      if (!found)
        return found.errors();
      if (!*found)
        continue;
      Route r = **found;
      auto d = std::find_if(view.devices.begin(), view.devices.end(),
                            [&](const DeviceView &v) { return v.ifindex == r.oif; });
      if (d != view.devices.end()) {
        r.device = d->name;
        r.mtu = r.mtu ? std::min(r.mtu, d->mtu) : d->mtu;
        if (is_unset(r.source) && !d->addresses.empty())
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
