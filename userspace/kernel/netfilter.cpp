// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/netfilter.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "userspace/kernel/modules.h"
#include "userspace/kernel/rtnl.h"
#include "userspace/util/fd.h"

namespace doppel {
namespace {
// linux/netfilter_ipv4/ip_tables.h, which does not compile as C++; IPv6 has the same.
constexpr int kGetInfo = 64; // IPT_SO_GET_INFO, IP6T_SO_GET_INFO
struct TableInfo {           // struct ipt_getinfo, struct ip6t_getinfo
  char name[32];
  unsigned valid_hooks, entry[NF_INET_NUMHOOKS], underflow[NF_INET_NUMHOOKS], entries, size;
};

struct Chain {
  std::string table, name, type;
  bool at_output = false, accepts = true;
  uint32_t users = 0; // rules in it, and jumps to it, which a base chain has none of
};

Chain read_chain(const nlmsghdr *h) {
  Chain c;
  for (const nlattr *a : attributes(h, sizeof(nfgenmsg))) {
    switch (mnl_attr_get_type(a)) {
    case NFTA_CHAIN_TABLE:
      c.table = mnl_attr_get_str(a);
      break;
    case NFTA_CHAIN_NAME:
      c.name = mnl_attr_get_str(a);
      break;
    case NFTA_CHAIN_TYPE:
      c.type = mnl_attr_get_str(a);
      break;
    case NFTA_CHAIN_POLICY:
      c.accepts = ntohl(mnl_attr_get_u32(a)) == NF_ACCEPT;
      break;
    case NFTA_CHAIN_USE:
      c.users = ntohl(mnl_attr_get_u32(a));
      break;
    case NFTA_CHAIN_HOOK:
      for (const nlattr *hook : nested(a))
        if (mnl_attr_get_type(hook) == NFTA_HOOK_HOOKNUM)
          c.at_output = ntohl(mnl_attr_get_u32(hook)) == NF_INET_LOCAL_OUT;
      break;
    }
  }
  return c;
}

void ask_nftables(const std::set<Family> &families, OutputRules &rules) {
  if (families.empty() || module_is_idle("nf_tables"))
    return;
  auto nl = Rtnl::open(NETLINK_NETFILTER);
  if (!nl)
    return;
  const struct {
    int family;
    const char *name;
    bool wanted;
  } all[] = {{NFPROTO_IPV4, "ip", families.count(Family::v4) > 0},
             {NFPROTO_IPV6, "ip6", families.count(Family::v6) > 0},
             {NFPROTO_INET, "inet", true}};
  for (const auto &[family, name, wanted] : all) {
    if (!wanted)
      continue;
    RtnlRequest q(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN, NLM_F_DUMP);
    auto *header = q.extra<nfgenmsg>();
    header->nfgen_family = static_cast<uint8_t>(family);
    header->version = NFNETLINK_V0;
    std::vector<RtnlMessage> replies;
    if (!nl->run(q, &replies).ok())
      return;
    for (const RtnlMessage &m : replies) {
      const Chain c = read_chain(m.header());
      if (!c.at_output || (c.users == 0 && c.accepts))
        continue;
      if (c.type == "nat")
        rules.translates = true;
      else
        rules.filters.push_back(std::string("nftables ") + name + " " + c.table + " " + c.name);
    }
  }
}

struct Iptables {
  const char *command, *names;
  int family, level;
};
constexpr Iptables kIptables{"iptables", "/proc/net/ip_tables_names", AF_INET, SOL_IP};
constexpr Iptables kIp6tables{"ip6tables", "/proc/net/ip6_tables_names", AF_INET6, SOL_IPV6};

// Only tables that exist are asked: the question would make them.
void ask_iptables(const Iptables &kind, OutputRules &rules) {
  std::ifstream names(kind.names);
  const Fd socket(::socket(kind.family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  for (std::string name; socket && std::getline(names, name);) {
    TableInfo info{};
    socklen_t size = sizeof(info);
    name.copy(info.name, sizeof(info.name) - 1);
    if (::getsockopt(socket.get(), kind.level, kGetInfo, &info, &size) ||
        !(info.valid_hooks >> NF_INET_LOCAL_OUT & 1) ||
        info.entry[NF_INET_LOCAL_OUT] == info.underflow[NF_INET_LOCAL_OUT])
      continue; // no rule before the chain's policy
    if (name == "nat")
      rules.translates = true;
    else
      rules.filters.push_back(std::string(kind.command) + " " + name + " OUTPUT");
  }
}

// The first three lines are headings.
bool has_virtual_services() {
  std::ifstream services("/proc/net/ip_vs");
  unsigned lines = 0;
  for (std::string line; std::getline(services, line);)
    lines++;
  return lines > 3;
}

} // namespace

OutputRules output_rules(const std::set<Family> &families) {
  OutputRules rules;
  ask_nftables(families, rules);
  if (families.count(Family::v4))
    ask_iptables(kIptables, rules);
  if (families.count(Family::v6))
    ask_iptables(kIp6tables, rules);
  rules.translates |= has_virtual_services();
  return rules;
}

} // namespace doppel
