// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/host_net.h"

#include <libmnl/libmnl.h>
#include <linux/if_tunnel.h>
#include <linux/in6.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "userspace/kernel/socket_address.h"
#include "userspace/util/error.h"
#include "userspace/util/fd.h"

namespace doppel {
namespace {
constexpr uint16_t kDiscard = 9; // RFC 863

// Tunnels say in a way of their own what they stand on.
void parse_tunnel(const nlattr *data, uint16_t link, const std::set<uint16_t> &local, Device &d) {
  for (const nlattr *a : nested(data)) {
    const uint16_t type = mnl_attr_get_type(a);
    if (type == link && mnl_attr_get_payload_len(a) == sizeof(uint32_t))
      d.peer = mnl_attr_get_u32(a);
    else if (const Address own = read_address(a); local.count(type) && !is_any(own))
      d.tunnel = own;
  }
}

void parse_link_info(const nlattr *info, Device &d) {
  const nlattr *data = nullptr;
  for (const nlattr *a : nested(info)) {
    if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
      d.kind = mnl_attr_get_str(a);
    else if (mnl_attr_get_type(a) == IFLA_INFO_DATA)
      data = a;
  }
  if (!data)
    return;
  if (d.kind == "vxlan")
    parse_tunnel(data, IFLA_VXLAN_LINK, {IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6}, d);
  else if (std::set<std::string>{"gretap", "erspan", "ip6gretap", "ip6erspan"}.count(d.kind))
    parse_tunnel(data, IFLA_GRE_LINK, {IFLA_GRE_LOCAL}, d);
}

Device parse_device(const nlmsghdr *h) {
  auto *ifi = static_cast<const ifinfomsg *>(mnl_nlmsg_get_payload(h));
  Device d;
  d.ifindex = static_cast<uint32_t>(ifi->ifi_index);
  d.arphrd = ifi->ifi_type;
  d.flags = ifi->ifi_flags;
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
      d.elsewhere = true;
      break;
    case IFLA_LINKINFO:
      parse_link_info(a, d);
      break;
    case IFLA_MASTER:
      d.master = mnl_attr_get_u32(a);
      break;
    case IFLA_CARRIER:
      d.carrier = mnl_attr_get_u8(a) != 0;
      break;
    case IFLA_ADDRESS: {
      const auto *bytes = static_cast<const char *>(mnl_attr_get_payload(a));
      d.mac.assign(bytes, mnl_attr_get_payload_len(a));
      break;
    }
    }
  }
  if (d.elsewhere)
    d.peer = 0; // an index of another namespace says nothing here
  return d;
}

void parse_route_metrics(const nlattr *metrics, Route *r) {
  for (const nlattr *a : nested(metrics)) {
    if (mnl_attr_get_type(a) == RTAX_MTU)
      r->mtu = mnl_attr_get_u32(a);
  }
}

// struct rtvia, which ends in an address of another family than the route's.
Address read_via(const nlattr *a) {
  const auto *via = static_cast<const rtvia *>(mnl_attr_get_payload(a));
  const size_t size = mnl_attr_get_payload_len(a);
  if (via->rtvia_family != AF_INET6 || size < sizeof(*via) + sizeof(in6_addr))
    return {};
  Address gateway;
  std::memcpy(&gateway.raw, via->rtvia_addr, sizeof(gateway.raw));
  return gateway;
}

Route parse_route(const nlmsghdr *h) {
  auto *rtm = static_cast<const rtmsg *>(mnl_nlmsg_get_payload(h));
  Route r;
  r.local = rtm->rtm_type == RTN_LOCAL || rtm->rtm_type == RTN_ANYCAST;
  for (const nlattr *a : attributes(h, sizeof(*rtm))) {
    switch (mnl_attr_get_type(a)) {
    case RTA_OIF:
      r.oif = mnl_attr_get_u32(a);
      break;
    case RTA_PREFSRC:
      r.source = read_address(a);
      break;
    case RTA_GATEWAY:
      r.gateway = read_address(a);
      break;
    case RTA_VIA:
      r.gateway = read_via(a);
      r.plain = false;
      break;
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

Result<std::optional<Device>> look_up(Rtnl &nl, RtnlRequest &q, const std::string &which) {
  std::optional<Device> found;
  std::vector<RtnlMessage> replies;
  RtnlStatus s = nl.run(q, &replies);
  // ERANGE: longer than any device's name can be.
  if (s.code == ENODEV || s.code == ERANGE)
    return found;
  if (!s.ok() || replies.empty())
    return rtnl_error(which, "cannot be looked up", s);
  found = parse_device(replies[0].header());
  return found;
}

bool usable_route_type(const nlmsghdr *h) {
  auto type = static_cast<const rtmsg *>(mnl_nlmsg_get_payload(h))->rtm_type;
  return type == RTN_UNICAST || type == RTN_LOCAL || type == RTN_ANYCAST;
}

// fib_table_lookup() and ip6_rt_type_to_error() report unreachable, blackhole (EINVAL) and prohibit
// routes this way. EOPNOTSUPP: the kernel has no IPv6.
bool means_no_route(int code) {
  return code == ENETUNREACH || code == EHOSTUNREACH || code == EACCES || code == EINVAL ||
         code == EOPNOTSUPP;
}

// A connected UDP socket has its source address, and the path's MTU, from where a TCP socket has
// them; no packet is sent. The route alone says neither: with `use_tempaddr` it prefers a temporary
// address (RFC 8981), which goes within a day while the mirror stays, and of a router's MTU option
// (RFC 4861, 4.6.4), which may be less than the device's, it does not tell.
void ask_socket(const Address &target, Route &r) {
  const Fd s(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int prefer = IPV6_PREFER_SRC_PUBLIC;
  const SocketAddress to = socket_address({target, kDiscard});
  if (!s ||
      ::setsockopt(s.get(), IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, &prefer, sizeof(prefer)) != 0 ||
      ::connect(s.get(), to.get(), to.size) != 0 || !(other_end(s.get()).address == target))
    return; // a BPF program at connect() may lead the socket elsewhere
  if (const Address own = own_end(s.get()).address; own.is_set())
    r.source = own;
  int mtu = 0;
  socklen_t size = sizeof(mtu);
  if (::getsockopt(s.get(), IPPROTO_IPV6, IPV6_MTU, &mtu, &size) == 0 && mtu > 0)
    r.mtu = static_cast<uint32_t>(mtu);
}

// IPv6 tries an address before it is the host's, but for an optimistic one (RFC 4429).
bool is_usable(uint32_t flags) {
  return !(flags & IFA_F_DADFAILED) && (!(flags & IFA_F_TENTATIVE) || flags & IFA_F_OPTIMISTIC);
}

std::optional<DeviceAddress> read_device_address(const nlmsghdr *h) {
  auto *ifa = static_cast<const ifaddrmsg *>(mnl_nlmsg_get_payload(h));
  const nlattr *local = nullptr;
  uint32_t flags = ifa->ifa_flags;
  for (const nlattr *a : attributes(h, sizeof(*ifa))) {
    const uint16_t type = mnl_attr_get_type(a);
    // On a point-to-point device IFA_ADDRESS is the other end's; IFA_LOCAL is always ours.
    if (type == IFA_LOCAL || (type == IFA_ADDRESS && !local))
      local = a;
    else if (type == IFA_FLAGS)
      flags = mnl_attr_get_u32(a);
  }
  if (!local || (ifa->ifa_family == AF_INET6 && !is_usable(flags)))
    return std::nullopt;
  const Address address = read_address(local);
  if (!address.is_set())
    return std::nullopt;
  return DeviceAddress{ifa->ifa_index, address};
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
  RtnlRequest q(RTM_GETLINK, 0);
  q.extra<ifinfomsg>();
  mnl_attr_put_strz(q.header(), IFLA_IFNAME, name.c_str());
  return look_up(nl, q, "device " + name);
}

Result<std::optional<Device>> find_device(Rtnl &nl, uint32_t ifindex) {
  if (!ifindex)
    return std::optional<Device>();
  RtnlRequest q(RTM_GETLINK, 0);
  q.extra<ifinfomsg>()->ifi_index = static_cast<int>(ifindex);
  return look_up(nl, q, "device number " + std::to_string(ifindex));
}

namespace {
// netdevice(7): answered under RCU (dev_ifsioc_locked()).
Result<std::optional<DeviceState>> ask_for(unsigned long what, ifreq request) {
  std::optional<DeviceState> none;
  const Fd s(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!s)
    return sys_error("an IPv4 socket", "cannot be opened", errno);
  const bool found = (what != SIOCGIFNAME || !::ioctl(s.get(), SIOCGIFNAME, &request)) &&
                     !::ioctl(s.get(), SIOCGIFFLAGS, &request);
  if (!found && errno != ENODEV && errno != ENXIO)
    return sys_error("devices", "cannot be asked for", errno);
  if (!found)
    return none;
  return std::optional(DeviceState{request.ifr_name, static_cast<uint16_t>(request.ifr_flags)});
}

} // namespace

Result<std::optional<DeviceState>> device_state(uint32_t ifindex) {
  ifreq request{};
  request.ifr_ifindex = static_cast<int>(ifindex);
  if (!ifindex)
    return std::optional<DeviceState>();
  return ask_for(SIOCGIFNAME, request);
}

Result<std::optional<DeviceState>> device_state(const std::string &name) {
  ifreq request{};
  if (name.empty() || name.size() >= sizeof(request.ifr_name))
    return std::optional<DeviceState>();
  name.copy(request.ifr_name, name.size());
  return ask_for(SIOCGIFFLAGS, request);
}

Result<std::optional<Route>> route_to(Rtnl &nl, const Address &target) {
  std::optional<Route> found;
  if (!target.is_set())
    return found;
  RtnlRequest q(RTM_GETROUTE, 0);
  auto *rtm = q.extra<rtmsg>();
  rtm->rtm_family = netlink_family(target);
  rtm->rtm_dst_len = target.is_v4() ? 32 : 128;
  put_address(q.header(), RTA_DST, target);
  std::vector<RtnlMessage> replies;
  RtnlStatus s = nl.run(q, &replies);
  if (means_no_route(s.code))
    return found;
  if (!s.ok() || replies.empty())
    return rtnl_error("route to " + target.text(), "cannot be looked up", s);
  if (!usable_route_type(replies[0].header()))
    return found;
  found = parse_route(replies[0].header());
  if (target.family() == Family::v6)
    ask_socket(target, *found);
  // The kernel takes it where a device has no other. It is no address for what a router may be
  // before (RFC 4291, 2.5.6).
  if (needs_scope(found->source) && !needs_scope(target))
    found->source = {};
  return found;
}

Result<std::vector<DeviceAddress>> list_addresses(Rtnl &nl) {
  RtnlRequest q(RTM_GETADDR, NLM_F_DUMP);
  q.extra<ifaddrmsg>()->ifa_family = AF_UNSPEC;
  std::vector<RtnlMessage> replies;
  if (auto s = nl.run(q, &replies); !s.ok())
    return rtnl_error("addresses of this host", "cannot be listed", s);
  std::vector<DeviceAddress> addresses;
  for (const auto &m : replies)
    if (const auto one = read_device_address(m.header()))
      addresses.push_back(*one);
  return addresses;
}

} // namespace doppel
