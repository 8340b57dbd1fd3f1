// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/netwatch.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "doppel/names.h"
#include "userspace/kernel/rtnl.h"

namespace doppel {
namespace {
// One message may fill a whole page, and several share a datagram.
constexpr size_t kReceiveBuffer = size_t{32} * 1024;

// A device that has come up: see host_view.cpp.
bool may_hear_answers(const nlmsghdr *h) {
  auto *ifi = static_cast<const ifinfomsg *>(mnl_nlmsg_get_payload(h));
  if (h->nlmsg_type != RTM_NEWLINK || ifi->ifi_type != ARPHRD_ETHER || !(ifi->ifi_flags & IFF_UP))
    return false;
  const auto list = attributes(h, sizeof(*ifi));
  return std::none_of(list.begin(), list.end(),
                      [](const nlattr *a) { return mnl_attr_get_type(a) == IFLA_MASTER; });
}

Family family_of(uint8_t family) {
  return family == AF_INET ? Family::v4 : family == AF_INET6 ? Family::v6 : Family::none;
}

} // namespace

void NetWatch::Closer::operator()(mnl_socket *s) const { mnl_socket_close(s); }

Result<NetWatch> NetWatch::open() {
  mnl_socket *s = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (!s)
    return sys_error("rtnetlink", "cannot open a socket", errno);
  NetWatch watch(s);
  // Neighbours are none of them: bpf_redirect_neigh() looks up anew for each packet.
  constexpr unsigned groups = RTMGRP_LINK | RTMGRP_TC | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE |
                              RTMGRP_IPV4_RULE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE;
  int rules6 = RTNLGRP_IPV6_RULE; // has no bit of its own among those
  if (mnl_socket_bind(s, groups, MNL_SOCKET_AUTOPID) < 0 ||
      mnl_socket_setsockopt(s, NETLINK_ADD_MEMBERSHIP, &rules6, sizeof(rules6)) < 0)
    return sys_error("rtnetlink", "cannot subscribe to changes", errno);
  return watch;
}

void NetWatch::watch(const Config &config, const Meta &meta) {
  names_ = {DP_LINK, DP_LINK_PEER};
  patterns_.clear();
  devices_.clear();
  targets_.clear();
  for (const MappingConfig &m : config.mappings) {
    patterns_.insert(m.devices.begin(), m.devices.end());
    for (const TargetConfig &t : m.targets)
      targets_.push_back(t.address);
  }
  for (const AttachedProgram &p : meta.programs) {
    names_.insert(p.what.device);
    devices_.insert(p.what.ifindex);
  }
}

int NetWatch::fd() const { return mnl_socket_get_fd(socket_.get()); }

// A route of any table whose destination covers a target: rules may choose any table.
bool NetWatch::route_matters(const nlmsghdr *h) const {
  auto *rtm = static_cast<const rtmsg *>(mnl_nlmsg_get_payload(h));
  Prefix destination{family_of(rtm->rtm_family), {}, rtm->rtm_dst_len};
  for (const nlattr *a : attributes(h, sizeof(*rtm)))
    if (mnl_attr_get_type(a) == RTA_DST)
      destination.address = read_address(a);
  return std::any_of(targets_.begin(), targets_.end(),
                     [&](const Address &target) { return destination.contains(target); });
}

// Those of IPv6 only where a target is of it: each router advertisement has them told of anew
// (RFC 4862, 5.5.3).
bool NetWatch::address_matters(const ifaddrmsg &ifa) const {
  const bool is_needed = ifa.ifa_family == AF_INET ||
                         std::any_of(targets_.begin(), targets_.end(), [](const Address &target) {
                           return target.family() == Family::v6;
                         });
  return is_needed && devices_.count(ifa.ifa_index) > 0;
}

bool NetWatch::is_named(const std::string &device) const {
  return names_.count(device) > 0 ||
         std::any_of(patterns_.begin(), patterns_.end(),
                     [&](const std::string &p) { return fits_device_pattern(p, device); });
}

bool NetWatch::matters(const nlmsghdr *h) const {
  const void *payload = mnl_nlmsg_get_payload(h);
  switch (h->nlmsg_type) {
  case RTM_NEWLINK:
  case RTM_DELLINK: {
    auto *ifi = static_cast<const ifinfomsg *>(payload);
    if (devices_.count(static_cast<uint32_t>(ifi->ifi_index)) || may_hear_answers(h))
      return true;
    for (const nlattr *a : attributes(h, sizeof(*ifi)))
      if (mnl_attr_get_type(a) == IFLA_IFNAME && is_named(mnl_attr_get_str(a)))
        return true;
    return false;
  }
  case RTM_NEWADDR:
  case RTM_DELADDR:
    return address_matters(*static_cast<const ifaddrmsg *>(payload));
  case RTM_DELQDISC:
  case RTM_DELTFILTER:
    return devices_.count(static_cast<uint32_t>(static_cast<const tcmsg *>(payload)->tcm_ifindex));
  case RTM_NEWROUTE:
  case RTM_DELROUTE:
    return route_matters(h);
  case RTM_NEWRULE:
  case RTM_DELRULE:
    return true;
  default:
    return false;
  }
}

bool NetWatch::changed() {
  bool result = false;
  alignas(nlmsghdr) char buf[kReceiveBuffer];
  for (;;) {
    const ssize_t got = mnl_socket_recvfrom(socket_.get(), buf, sizeof(buf));
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0 && (errno == ENOBUFS || errno == ENOSPC)) { // news were lost: look at everything
      result = true;
      continue;
    }
    if (got <= 0)
      return result;
    int left = static_cast<int>(got);
    for (auto *h = reinterpret_cast<nlmsghdr *>(buf); mnl_nlmsg_ok(h, left);
         h = mnl_nlmsg_next(h, &left))
      result = result || matters(h);
  }
}

} // namespace doppel
