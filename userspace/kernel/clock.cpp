// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/clock.h"

#include <libmnl/libmnl.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <cerrno>
#include <cstring>

#include "doppel/abi.h"
#include "doppel/names.h"
#include "userspace/kernel/host_net.h"

namespace doppel {
namespace {
constexpr char kDevice[] = "device " DP_LINK_PEER;

tcmsg *start(RtnlRequest &q, uint32_t ifindex, uint32_t parent, uint32_t handle) {
  auto *t = q.extra<tcmsg>();
  t->tcm_ifindex = static_cast<int>(ifindex);
  t->tcm_parent = parent;
  t->tcm_handle = handle;
  mnl_attr_put_strz(q.header(), TCA_KIND, "htb");
  return t;
}

// What has no class of its own passes at once.
RtnlStatus add_qdisc(Rtnl &nl, uint32_t ifindex) {
  RtnlRequest q(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE);
  start(q, ifindex, TC_H_ROOT, DP_CLOCK_HANDLE);
  tc_htb_glob glob{};
  glob.version = TC_HTB_PROTOVER;
  glob.rate2quantum = 1;
  nlattr *options = mnl_attr_nest_start(q.header(), TCA_OPTIONS);
  mnl_attr_put(q.header(), TCA_HTB_INIT, sizeof(glob), &glob);
  mnl_attr_nest_end(q.header(), options);
  return nl.run(q);
}

// So many bytes take so long, and a bucket that holds next to nothing.
RtnlStatus add_class(Rtnl &nl, uint32_t ifindex, uint32_t number, uint32_t bytes, uint32_t ms) {
  RtnlRequest q(RTM_NEWTCLASS, NLM_F_CREATE);
  start(q, ifindex, DP_CLOCK_HANDLE, DP_CLOCK_HANDLE + number);
  tc_htb_opt opt{};
  opt.rate.linklayer = TC_LINKLAYER_ETHERNET; // the kernel reckons by itself, without a table
  opt.rate.rate = bytes * 1000 / ms;
  opt.ceil = opt.rate;
  opt.buffer = opt.cbuffer = 1; // units of 64 ns
  opt.quantum = 1000;
  nlattr *options = mnl_attr_nest_start(q.header(), TCA_OPTIONS);
  mnl_attr_put(q.header(), TCA_HTB_PARMS, sizeof(opt), &opt);
  mnl_attr_nest_end(q.header(), options);
  return nl.run(q);
}

} // namespace

Result<bool> has_clock(Rtnl &nl, uint32_t ifindex) {
  RtnlRequest q(RTM_GETTCLASS, NLM_F_DUMP);
  auto *t = q.extra<tcmsg>();
  t->tcm_ifindex = static_cast<int>(ifindex);
  std::vector<RtnlMessage> replies;
  if (auto s = nl.run(q, &replies); !s.ok())
    return rtnl_error(kDevice, "its qdisc cannot be read", s);
  for (const RtnlMessage &m : replies) {
    const auto *c = static_cast<const tcmsg *>(mnl_nlmsg_get_payload(m.header()));
    if (m.header()->nlmsg_type == RTM_NEWTCLASS && c->tcm_handle == DP_CLOCK_HANDLE + 1)
      return true;
  }
  return false;
}

std::string no_clock(const Error &why) {
  return "no clock: " + why.where + ": " + why.what + (why.hint.empty() ? "" : "; " + why.hint) +
         ". What is lost at the end of a conversation is sent again by doppel run, and without it "
         "at that conversation's next packet";
}

Status ensure_clock(Rtnl &nl, uint32_t ifindex) {
  if (TRY(has_clock(nl, ifindex)))
    return Unit{};
  if (auto s = add_qdisc(nl, ifindex); !s.ok())
    return rtnl_error(kDevice, "the qdisc htb cannot be added", s,
                      s.code == ENOENT ? "load the module sch_htb" : "");
  for (uint32_t hand : {0u, 1u})
    if (auto s =
            add_class(nl, ifindex, 1 + hand, DP_CLOCK_BYTES, hand ? DP_CLOCK_SLOW_MS : DP_CLOCK_MS);
        !s.ok())
      return rtnl_error(kDevice, "a class of the qdisc htb cannot be added", s);
  return Unit{};
}

} // namespace doppel
