// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/ipsec.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/xfrm.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "userspace/kernel/modules.h"
#include "userspace/kernel/rtnl.h"

namespace doppel {
namespace {
constexpr const char *kModule = "xfrm_user"; // what speaks NETLINK_XFRM

Prefix prefix_of(uint16_t family, const xfrm_address_t &a, uint8_t bits) {
  if (family == AF_INET)
    return {Family::v4, Address::v4(a.a4), bits};
  Prefix p{Family::v6, {}, bits};
  std::memcpy(&p.address.raw, a.a6, sizeof(p.address.raw));
  return p;
}

// A template that is optional is skipped while no security association fits (xfrm_tmpl_resolve());
// those come and go by themselves.
void read_templates(const nlattr *templates, IpsecPolicy &p) {
  const auto *t = static_cast<const xfrm_user_tmpl *>(mnl_attr_get_payload(templates));
  size_t n = mnl_attr_get_payload_len(templates) / sizeof(*t);
  p.transform = n > 0;
  p.optional = n > 0;
  for (; n > 0; n--, t++)
    p.optional &= t->optional != 0;
}

// False: it is not for what this host sends with no mark and no XFRM interface.
bool read_policy(const nlmsghdr *h, IpsecPolicy &p) {
  if (h->nlmsg_type != XFRM_MSG_NEWPOLICY ||
      mnl_nlmsg_get_payload_len(h) < sizeof(xfrm_userpolicy_info))
    return false;
  const auto *info = static_cast<const xfrm_userpolicy_info *>(mnl_nlmsg_get_payload(h));
  const xfrm_selector &s = info->sel;
  if (info->dir != XFRM_POLICY_OUT || (s.family != AF_INET && s.family != AF_INET6))
    return false;
  p.from = prefix_of(s.family, s.saddr, s.prefixlen_s);
  p.to = prefix_of(s.family, s.daddr, s.prefixlen_d);
  p.proto = s.proto;
  p.from_port = ntohs(s.sport);
  p.from_mask = ntohs(s.sport_mask);
  p.to_port = ntohs(s.dport);
  p.to_mask = ntohs(s.dport_mask);
  p.ifindex = static_cast<uint32_t>(s.ifindex);
  p.priority = info->priority;
  p.block = info->action == XFRM_POLICY_BLOCK;
  for (const nlattr *a : attributes(h, sizeof(*info))) {
    switch (mnl_attr_get_type(a)) {
    case XFRMA_TMPL:
      read_templates(a, p);
      break;
    case XFRMA_MARK: {
      xfrm_mark mark{};
      std::memcpy(&mark, mnl_attr_get_payload(a),
                  std::min<size_t>(sizeof(mark), mnl_attr_get_payload_len(a)));
      if (mark.v & mark.m)
        return false;
      break;
    }
    case XFRMA_IF_ID:
      if (mnl_attr_get_u32(a))
        return false;
      break;
    }
  }
  return true;
}

} // namespace

Result<IpsecPolicies> list_ipsec_policies() {
  IpsecPolicies policies;
  // To ask would load the module, and without it there is no policy.
  if (module_is_idle(kModule))
    return policies;
  auto nl = Rtnl::open(NETLINK_XFRM);
  if (!nl)
    return policies;
  RtnlRequest q(XFRM_MSG_GETPOLICY, NLM_F_DUMP);
  q.extra<xfrm_userpolicy_id>();
  std::vector<RtnlMessage> replies;
  if (auto s = nl->run(q, &replies); !s.ok())
    return rtnl_error("IPsec policies", "cannot be listed", s);
  for (const RtnlMessage &m : replies)
    if (IpsecPolicy p; read_policy(m.header(), p))
      policies.out.push_back(p);
  // What is not matched passes before Linux 5.14 (commit 2d151d39073a), which does not know this.
  RtnlRequest ask(XFRM_MSG_GETDEFAULT, 0);
  ask.extra<xfrm_userpolicy_default>();
  replies.clear();
  if (nl->run(ask, &replies).ok() && !replies.empty() &&
      mnl_nlmsg_get_payload_len(replies[0].header()) >= sizeof(xfrm_userpolicy_default)) {
    const auto *d =
        static_cast<const xfrm_userpolicy_default *>(mnl_nlmsg_get_payload(replies[0].header()));
    policies.blocks = d->out == XFRM_USERPOLICY_BLOCK;
  }
  return policies;
}

Fd watch_ipsec_policies() {
  Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_XFRM));
  sockaddr_nl self{};
  self.nl_family = AF_NETLINK;
  self.nl_groups = XFRMGRP_POLICY;
  if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr *>(&self), sizeof(self)))
    return {};
  return fd;
}

} // namespace doppel
