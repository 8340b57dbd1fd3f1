// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/clsact.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>

#include "userspace/util/direction.h"

namespace doppel {
namespace {
std::string object(const std::string &device, dp_direction hook) {
  return "device " + device + " " + direction_name(hook);
}

uint32_t parent_of(dp_direction hook) {
  return TC_H_MAKE(TC_H_CLSACT, hook == DP_DIR_INGRESS ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
}

tcmsg *start(RtnlRequest &q, uint32_t ifindex, uint32_t parent) {
  auto *t = q.extra<tcmsg>();
  t->tcm_ifindex = static_cast<int>(ifindex);
  t->tcm_parent = parent;
  return t;
}

void name_filter(RtnlRequest &q, uint32_t ifindex, dp_direction hook, uint32_t priority,
                 uint32_t handle, uint16_t protocol) {
  tcmsg *t = start(q, ifindex, parent_of(hook));
  t->tcm_handle = handle;
  t->tcm_info = TC_H_MAKE(priority << 16, htons(protocol));
  mnl_attr_put_strz(q.header(), TCA_KIND, "bpf");
}

void parse_bpf_options(const nlattr *options, Filter *f) {
  for (const nlattr *a : nested(options)) {
    if (mnl_attr_get_type(a) == TCA_BPF_ID)
      f->prog_id = mnl_attr_get_u32(a);
    if (mnl_attr_get_type(a) == TCA_BPF_NAME)
      f->name = mnl_attr_get_str(a);
  }
}

Filter parse_filter(const nlmsghdr *h) {
  auto *t = static_cast<const tcmsg *>(mnl_nlmsg_get_payload(h));
  Filter f;
  f.priority = TC_H_MAJ(t->tcm_info) >> 16;
  f.protocol = ntohs(static_cast<uint16_t>(TC_H_MIN(t->tcm_info)));
  f.handle = t->tcm_handle;
  const nlattr *options = nullptr;
  for (const nlattr *a : attributes(h, sizeof(*t))) {
    switch (mnl_attr_get_type(a)) {
    case TCA_KIND:
      f.kind = mnl_attr_get_str(a);
      break;
    case TCA_CHAIN:
      f.chain = mnl_attr_get_u32(a);
      break;
    case TCA_OPTIONS:
      options = a;
      break;
    }
  }
  if (options && f.kind == "bpf")
    parse_bpf_options(options, &f);
  return f;
}

} // namespace

Result<IngressQdisc> ingress_qdisc(Rtnl &nl, uint32_t ifindex, const std::string &device) {
  // The answer is sent like a notification: to the asker only if it wants the echo
  // (qdisc_notify(), nlmsg_notify()).
  RtnlRequest q(RTM_GETQDISC, NLM_F_ECHO);
  start(q, ifindex, TC_H_CLSACT); // the same number as TC_H_INGRESS: one slot for both
  std::vector<RtnlMessage> replies;
  RtnlStatus s = nl.run(q, &replies);
  if (s.code == ENOENT || s.code == ENODEV) // there is no qdisc, or no such device any more
    return IngressQdisc::none;
  if (!s.ok())
    return rtnl_error("device " + device, "its qdiscs cannot be read", s);
  for (const auto &m : replies) {
    for (const nlattr *a : attributes(m.header(), sizeof(tcmsg))) {
      if (mnl_attr_get_type(a) != TCA_KIND)
        continue;
      std::string kind = mnl_attr_get_str(a);
      if (kind == "clsact")
        return IngressQdisc::clsact;
      if (kind == "ingress")
        return IngressQdisc::ingress;
    }
  }
  return IngressQdisc::none; // the kernel names `noop` here once a qdisc has been removed
}

Result<bool> ensure_clsact(Rtnl &nl, uint32_t ifindex, const std::string &device,
                           dp_direction hook) {
  for (int tries = 0;; tries++) {
    auto kind = TRY(ingress_qdisc(nl, ifindex, device));
    if (kind == IngressQdisc::ingress && hook == DP_DIR_EGRESS)
      // A filter with an egress parent would silently run on ingress (ingress_tcf_block()).
      return Error{object(device, hook),
                   "the qdisc `ingress` occupies the place of clsact and has no egress side",
                   "replace it by clsact, which keeps its parent ffff: (tc qdisc del dev " +
                       device + " ingress; tc qdisc add dev " + device +
                       " clsact), or use attach mode tcx"};
    if (kind != IngressQdisc::none)
      return false;
    RtnlRequest q(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL);
    start(q, ifindex, TC_H_CLSACT)->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
    mnl_attr_put_strz(q.header(), TCA_KIND, "clsact");
    RtnlStatus s = nl.run(q);
    if (s.ok())
      return true;
    if (s.code != EEXIST || tries == 3) // EEXIST: someone else made it meanwhile
      return rtnl_error("device " + device, "the qdisc clsact cannot be added", s,
                        "doppel probe tells what this kernel can do");
  }
}

Result<std::vector<Filter>> list_filters(Rtnl &nl, uint32_t ifindex, const std::string &device,
                                         dp_direction hook) {
  auto kind = TRY(ingress_qdisc(nl, ifindex, device));
  std::vector<Filter> filters;
  // On `ingress` a dump of the egress parent would list the ingress filters again.
  if (kind == IngressQdisc::none || (kind == IngressQdisc::ingress && hook == DP_DIR_EGRESS))
    return filters;
  RtnlRequest q(RTM_GETTFILTER, NLM_F_DUMP);
  start(q, ifindex, parent_of(hook));
  std::vector<RtnlMessage> replies;
  if (auto s = nl.run(q, &replies); !s.ok())
    return rtnl_error(object(device, hook), "its filters cannot be read", s);
  for (const auto &m : replies) {
    if (m.header()->nlmsg_type != RTM_NEWTFILTER)
      continue;
    Filter f = parse_filter(m.header());
    // Each priority is announced by a row without handle, then come its own (tcf_chain_dump()).
    bool announced = f.handle == 0;
    if (f.kind == "bpf" ? announced : !announced)
      continue;
    filters.push_back(f);
  }
  // The kernel walks priorities upward, and within one priority in the order of the dump.
  std::stable_sort(filters.begin(), filters.end(), [](const Filter &a, const Filter &b) {
    return std::pair(a.chain, a.priority) < std::pair(b.chain, b.priority);
  });
  return filters;
}

Status add_filter(Rtnl &nl, uint32_t ifindex, const std::string &device, dp_direction hook,
                  int prog_fd, const std::string &name, uint32_t priority) {
  RtnlRequest q(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL);
  name_filter(q, ifindex, hook, priority, 1, ETH_P_ALL);
  nlattr *options = mnl_attr_nest_start(q.header(), TCA_OPTIONS);
  mnl_attr_put_u32(q.header(), TCA_BPF_FD, static_cast<uint32_t>(prog_fd));
  mnl_attr_put_strz(q.header(), TCA_BPF_NAME, name.c_str());
  mnl_attr_put_u32(q.header(), TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
  mnl_attr_nest_end(q.header(), options);
  if (auto s = nl.run(q); !s.ok())
    return rtnl_error(object(device, hook),
                      "cannot add " + name + " as a filter of priority " + std::to_string(priority),
                      s);
  return Unit{};
}

Status remove_filter(Rtnl &nl, uint32_t ifindex, const std::string &device, dp_direction hook,
                     const Filter &filter) {
  auto now = TRY(list_filters(nl, ifindex, device, hook));
  bool unchanged = std::any_of(now.begin(), now.end(), [&](const Filter &f) {
    return f.chain == filter.chain && f.priority == filter.priority && f.handle == filter.handle &&
           f.kind == "bpf" && f.prog_id == filter.prog_id;
  });
  if (!unchanged)
    return Unit{};
  RtnlRequest q(RTM_DELTFILTER, 0);
  name_filter(q, ifindex, hook, filter.priority, filter.handle, filter.protocol);
  if (filter.chain)
    mnl_attr_put_u32(q.header(), TCA_CHAIN, filter.chain);
  if (auto s = nl.run(q); !s.ok() && s.code != ENOENT && s.code != ENODEV)
    return rtnl_error(object(device, hook),
                      "cannot remove the filter of priority " + std::to_string(filter.priority), s);
  return Unit{};
}

Status remove_clsact_if_empty(Rtnl &nl, uint32_t ifindex, const std::string &device) {
  auto kind = TRY(ingress_qdisc(nl, ifindex, device));
  if (kind != IngressQdisc::clsact)
    return Unit{};
  for (dp_direction hook : {DP_DIR_INGRESS, DP_DIR_EGRESS}) {
    auto filters = TRY(list_filters(nl, ifindex, device, hook));
    if (!filters.empty())
      return Unit{};
  }
  RtnlRequest q(RTM_DELQDISC, 0);
  start(q, ifindex, TC_H_CLSACT)->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
  mnl_attr_put_strz(q.header(), TCA_KIND, "clsact");
  if (auto s = nl.run(q); !s.ok() && s.code != ENOENT && s.code != ENODEV && s.code != EINVAL)
    return rtnl_error("device " + device, "the qdisc clsact cannot be removed", s);
  return Unit{};
}

} // namespace doppel
