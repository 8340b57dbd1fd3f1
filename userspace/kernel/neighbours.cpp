// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/neighbours.h"

#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "userspace/kernel/host_net.h"

namespace doppel {
namespace {
constexpr unsigned kPollMs = 20;

void put_neighbour(RtnlRequest &q, const NextHop &hop, uint8_t flags) {
  auto *n = q.extra<ndmsg>();
  n->ndm_family = netlink_family(hop.address);
  n->ndm_ifindex = static_cast<int>(hop.ifindex);
  n->ndm_flags = flags;
  put_address(q.header(), NDA_DST, hop.address);
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

std::vector<std::string> resolve_neighbours(Rtnl &nl, const Config &config, unsigned timeout_ms) {
  std::vector<NextHop> hops;
  for (const auto &m : config.mappings) {
    for (const auto &t : m.targets) {
      auto route = route_to(nl, t.address);
      if (!route || !*route || (*route)->local)
        continue;
      const Route &r = **route;
      NextHop hop{r.oif, {}, r.gateway.is_set() ? r.gateway : t.address};
      if (std::any_of(hops.begin(), hops.end(), [&](const NextHop &h) {
            return h.ifindex == hop.ifindex && h.address == hop.address;
          }))
        continue;
      char name[IF_NAMESIZE];
      hop.device = ::if_indextoname(r.oif, name) ? name : "?";
      hops.push_back(hop);
    }
  }
  std::vector<std::string> warnings;
  for (const NextHop &hop : resolve_neighbours(nl, hops, timeout_ms))
    warnings.push_back("neighbour " + hop.address.text() + " on " + hop.device +
                       " does not answer; copies that need it are tried again until it does");
  return warnings;
}

} // namespace doppel
