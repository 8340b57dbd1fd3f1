// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/link.h"

#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "doppel/names.h"
#include "userspace/util/fd.h"

namespace doppel {
namespace {
constexpr char kAlias[] = "doppel";      // and what create_link_pair() was given to note
constexpr char kNoteBefore[] = "bpffs "; // Pins::file_system(): and "MAJOR:MINOR"

std::string object(const char *name) { return std::string("device ") + name; }

RtnlStatus create_down(Rtnl &nl) {
  RtnlRequest q(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  q.extra<ifinfomsg>();
  nlmsghdr *h = q.header();
  mnl_attr_put_strz(h, IFLA_IFNAME, DP_LINK);
  mnl_attr_put_u32(h, IFLA_MTU, kLinkMtu);
  nlattr *info = mnl_attr_nest_start(h, IFLA_LINKINFO);
  mnl_attr_put_strz(h, IFLA_INFO_KIND, "veth");
  nlattr *data = mnl_attr_nest_start(h, IFLA_INFO_DATA);
  nlattr *peer = mnl_attr_nest_start(h, VETH_INFO_PEER);
  // VETH_INFO_PEER holds an ifinfomsg, then attributes (veth_newlink()).
  auto *ifi = static_cast<ifinfomsg *>(mnl_nlmsg_put_extra_header(h, sizeof(ifinfomsg)));
  std::memset(ifi, 0, sizeof(*ifi));
  mnl_attr_put_strz(h, IFLA_IFNAME, DP_LINK_PEER);
  mnl_attr_put_u32(h, IFLA_MTU, kLinkMtu);
  mnl_attr_nest_end(h, peer);
  mnl_attr_nest_end(h, data);
  mnl_attr_nest_end(h, info);
  return nl.run(q);
}

// IPv6 would otherwise bring a link-local address, router solicitations and MLD reports, which
// are frames that the operator did not ask for. Without IPv6 in the kernel neither exists.
void switch_ipv6_off(Rtnl &nl, const char *name) {
  std::ofstream(std::string("/proc/sys/net/ipv6/conf/") + name + "/disable_ipv6") << "1\n";
  RtnlRequest q(RTM_SETLINK, 0);
  q.extra<ifinfomsg>();
  nlmsghdr *h = q.header();
  mnl_attr_put_strz(h, IFLA_IFNAME, name);
  nlattr *spec = mnl_attr_nest_start(h, IFLA_AF_SPEC);
  nlattr *inet6 = mnl_attr_nest_start(h, AF_INET6);
  mnl_attr_put_u8(h, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
  mnl_attr_nest_end(h, inet6);
  mnl_attr_nest_end(h, spec);
  nl.run(q);
}

// An empty alias leaves it as it is.
RtnlStatus mark_and_start(Rtnl &nl, uint32_t ifindex, const std::string &alias) {
  RtnlRequest q(RTM_SETLINK, 0);
  auto *ifi = q.extra<ifinfomsg>();
  ifi->ifi_index = static_cast<int>(ifindex);
  ifi->ifi_flags = IFF_UP | IFF_NOARP;
  ifi->ifi_change = IFF_UP | IFF_NOARP;
  if (!alias.empty())
    mnl_attr_put_str(q.header(), IFLA_IFALIAS, alias.c_str());
  return nl.run(q);
}

// What goes out of it leaves with its checksum made, whatever a device behind it could do
// (bpf/udp/build.bpf.h). It fails where there is nothing to switch off.
void switch_checksums_off(const char *name) {
  const Fd s(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ethtool_value off{.cmd = ETHTOOL_STXCSUM, .data = 0};
  ifreq request{};
  std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  request.ifr_data = reinterpret_cast<char *>(&off);
  ::ioctl(s.get(), SIOCETHTOOL, &request);
}

RtnlStatus delete_device(Rtnl &nl, uint32_t ifindex) {
  RtnlRequest q(RTM_DELLINK, 0);
  q.extra<ifinfomsg>()->ifi_index = static_cast<int>(ifindex);
  return nl.run(q);
}

// By our alias: alone, or with the note of create_link_pair(), which has no other form.
bool has_our_alias(const Device &d) {
  const std::string before = std::string(kAlias) + " " + kNoteBefore;
  if (d.alias == kAlias)
    return true;
  return d.alias.starts_with(before) &&
         d.alias.find_first_not_of("0123456789:", before.size()) == std::string::npos;
}

// As create_down() leaves it, and nobody else: an interrupted attach had not marked it yet.
bool is_untouched(const Device &d) {
  return d.alias.empty() && d.mtu == kLinkMtu && !(d.flags & IFF_UP) && d.master == 0;
}

// Two ends in one network namespace.
bool is_our_pair(const Device &a, const Device &b) {
  if (a.kind != "veth" || b.kind != "veth" || a.peer != b.ifindex || b.peer != a.ifindex)
    return false;
  if (has_our_alias(a) && has_our_alias(b))
    return true;
  const auto ends = [](const Device &one, const Device &other) {
    return one.name == DP_LINK && other.name == DP_LINK_PEER;
  };
  return (ends(a, b) || ends(b, a)) &&
         (has_our_alias(a) || has_our_alias(b) || (is_untouched(a) && is_untouched(b)));
}

} // namespace

Result<bool> is_our_link(Rtnl &nl, const Device &d) {
  if (d.kind != "veth" || d.peer == 0)
    return false;
  const auto peer = TRY(find_device(nl, d.peer));
  return peer && is_our_pair(d, *peer);
}

std::string noted_on(const Device &link) {
  const std::string before = std::string(kAlias) + " ";
  return link.alias.starts_with(before) ? link.alias.substr(before.size()) : "";
}

Result<uint32_t> create_link_pair(Rtnl &nl, const std::string &note) {
  if (auto s = create_down(nl); !s.ok()) {
    if (s.code == EEXIST)
      return rtnl_error(object(DP_LINK), "cannot be created", s,
                        "see what it is with: ip -d link show " DP_LINK " (or " DP_LINK_PEER ")");
    return rtnl_error(object(DP_LINK), "cannot be created", s,
                      s.code == EOPNOTSUPP ? "the kernel lacks veth: load the module veth" : "");
  }
  auto d = find_device(nl, DP_LINK);
  if (!d || !*d)
    return Error{object(DP_LINK), "vanished right after it was created",
                 "look for a network manager that removes unknown devices"};
  const uint32_t ifindex = (*d)->ifindex, peer = (*d)->peer;
  for (const char *name : {DP_LINK, DP_LINK_PEER}) {
    switch_ipv6_off(nl, name);
    if (auto s = mark_and_start(nl, name == std::string(DP_LINK) ? ifindex : peer,
                                kAlias + (note.empty() ? "" : " " + note));
        !s.ok()) {
      delete_device(nl, ifindex);
      return rtnl_error(object(name), "cannot be set up", s);
    }
  }
  switch_checksums_off(DP_LINK_PEER);
  return ifindex;
}

Status start_link_pair(Rtnl &nl, const Device &link) {
  for (const uint32_t ifindex : {link.ifindex, link.peer})
    if (auto s = mark_and_start(nl, ifindex, ""); !s.ok())
      return rtnl_error(ifindex == link.ifindex ? object(link.name.c_str()) : object(DP_LINK_PEER),
                        "cannot be set up", s);
  return Unit{};
}

Result<std::vector<Device>> find_our_links(Rtnl &nl) {
  const auto all = TRY(list_devices(nl));
  std::vector<Device> ours;
  for (const Device &d : all)
    if (std::any_of(all.begin(), all.end(),
                    [&](const Device &other) { return is_our_pair(d, other); }))
      ours.push_back(d);
  return ours;
}

Result<bool> remove_link_pair(Rtnl &nl, const std::set<uint32_t> &known) {
  auto ours = TRY(find_our_links(nl));
  for (uint32_t ifindex : known)
    if (auto d = TRY(find_device(nl, ifindex)); d && d->kind == "veth")
      ours.push_back(std::move(*d));
  for (const Device &d : ours) // the second end goes with the first
    if (auto s = delete_device(nl, d.ifindex); !s.ok() && s.code != ENODEV)
      return rtnl_error(object(d.name.c_str()), "cannot be removed", s, "ip link delete " + d.name);
  return !ours.empty();
}

} // namespace doppel
