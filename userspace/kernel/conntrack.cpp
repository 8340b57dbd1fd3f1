// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/conntrack.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

#include "userspace/kernel/rtnl.h"
#include "userspace/util/address.h"
#include "userspace/util/fd.h"

namespace doppel {
namespace {
struct Closer {
  void operator()(mnl_socket *s) const { mnl_socket_close(s); }
};

// There from the moment on at which nf_conntrack is loaded. To ask it over netlink before that
// would load it, and a host without it has no address translation of its own.
constexpr const char *kTracked = "/proc/sys/net/netfilter/nf_conntrack_count";

Error failed(int code) { return sys_error("connection tracking", "cannot be asked", code); }

void put_tuple(nlmsghdr *h, const Address &client, __be16 client_port, const Address &server,
               __be16 server_port) {
  nlattr *tuple = mnl_attr_nest_start(h, CTA_TUPLE_ORIG);
  nlattr *ip = mnl_attr_nest_start(h, CTA_TUPLE_IP);
  put_address(h, client.is_v4() ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, client);
  put_address(h, client.is_v4() ? CTA_IP_V4_DST : CTA_IP_V6_DST, server);
  mnl_attr_nest_end(h, ip);
  nlattr *proto = mnl_attr_nest_start(h, CTA_TUPLE_PROTO);
  mnl_attr_put_u8(h, CTA_PROTO_NUM, IPPROTO_TCP);
  mnl_attr_put_u16(h, CTA_PROTO_SRC_PORT, client_port);
  mnl_attr_put_u16(h, CTA_PROTO_DST_PORT, server_port);
  mnl_attr_nest_end(h, proto);
  mnl_attr_nest_end(h, tuple);
}

// An end of a tuple, in network order.
struct End {
  dp_addr address{};
  __be16 port = 0;
};

void read_tuple(const nlattr *tuple, End &from, End &to) {
  for (const nlattr *part : nested(tuple))
    for (const nlattr *a : nested(part)) {
      const bool ip = mnl_attr_get_type(part) == CTA_TUPLE_IP;
      const uint16_t type = mnl_attr_get_type(a);
      if (ip && (type == CTA_IP_V4_SRC || type == CTA_IP_V6_SRC))
        from.address = read_address(a).raw;
      else if (ip && (type == CTA_IP_V4_DST || type == CTA_IP_V6_DST))
        to.address = read_address(a).raw;
      else if (!ip && (type == CTA_PROTO_SRC_PORT || type == CTA_PROTO_DST_PORT))
        (type == CTA_PROTO_SRC_PORT ? from : to).port = mnl_attr_get_u16(a);
    }
}

uint8_t tcp_state(const nlattr *info) {
  for (const nlattr *tcp : nested(info))
    if (mnl_attr_get_type(tcp) == CTA_PROTOINFO_TCP)
      for (const nlattr *a : nested(tcp))
        if (mnl_attr_get_type(a) == CTA_PROTOINFO_TCP_STATE)
          return mnl_attr_get_u8(a);
  return TCP_CONNTRACK_NONE;
}

// False: it is not an established connection of TCP.
bool read_tracked(const nlmsghdr *h, uint32_t timeout_s, TrackedConnection &c) {
  End from, to, answer_from, answer_to;
  uint8_t state = TCP_CONNTRACK_NONE;
  uint32_t left = 0;
  for (const nlattr *a : attributes(h, sizeof(nfgenmsg))) {
    switch (mnl_attr_get_type(a)) {
    case CTA_TUPLE_ORIG:
      read_tuple(a, from, to);
      break;
    case CTA_TUPLE_REPLY:
      read_tuple(a, answer_from, answer_to);
      break;
    case CTA_PROTOINFO:
      state = tcp_state(a);
      break;
    case CTA_TIMEOUT:
      left = ntohl(mnl_attr_get_u32(a));
      break;
    }
  }
  c = {from.address, to.address, answer_from.address, from.port, to.port, answer_from.port, 0};
  c.silent_s = left < timeout_s ? timeout_s - left : 0;
  return state == TCP_CONNTRACK_ESTABLISHED;
}

uint32_t number_in(const char *path) {
  uint32_t n = 0;
  std::ifstream(path) >> n;
  return n;
}

} // namespace

Result<std::vector<TrackedConnection>> list_tracked(const std::vector<PortRange> &ports) {
  constexpr uint32_t kMost = 65536;
  std::vector<TrackedConnection> found;
  const uint32_t count = number_in(kTracked);
  if (count == 0 || count > kMost)
    return found;
  auto nl = TRY(Rtnl::open(NETLINK_NETFILTER));
  RtnlRequest q(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP);
  auto *family = q.extra<nfgenmsg>();
  family->nfgen_family = AF_UNSPEC; // all
  family->version = NFNETLINK_V0;
  std::vector<RtnlMessage> replies;
  if (auto s = nl.run(q, &replies); !s.ok())
    return rtnl_error("connection tracking", "cannot be listed", s);
  const uint32_t timeout_s =
      number_in("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established");
  const auto wanted = [&](__be16 port) {
    return std::any_of(ports.begin(), ports.end(), [&](PortRange r) {
      return r.first <= ntohs(port) && ntohs(port) <= r.last;
    });
  };
  for (const RtnlMessage &m : replies)
    if (TrackedConnection c; read_tracked(m.header(), timeout_s, c) &&
                             (wanted(c.server_port) || wanted(c.passed_to_port)))
      found.push_back(c);
  return found;
}

Result<Address> passed_to(const dp_addr &client, __be16 client_port, const dp_addr &server,
                          __be16 server_port) {
  const uint16_t port = ntohs(server_port);
  for (const TrackedConnection &c : TRY(list_tracked({{port, port}})))
    if (Address{c.client} == Address{client} && c.client_port == client_port &&
        Address{c.server} == Address{server} && c.server_port == server_port)
      return Address{c.passed_to};
  return Address{};
}

Result<bool> has_other_destination(const dp_addr &client, __be16 client_port, const dp_addr &server,
                                   __be16 server_port) {
  if (Address{client}.family() != Address{server}.family() || ::access(kTracked, F_OK))
    return false;
  const std::unique_ptr<mnl_socket, Closer> socket(
      mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC));
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return failed(errno);
  alignas(8) char buf[8192] = {};
  nlmsghdr *h = mnl_nlmsg_put_header(buf);
  h->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
  h->nlmsg_flags = NLM_F_REQUEST;
  auto *family = static_cast<nfgenmsg *>(mnl_nlmsg_put_extra_header(h, sizeof(nfgenmsg)));
  family->nfgen_family = netlink_family(Address{client});
  family->version = NFNETLINK_V0;
  put_tuple(h, Address{client}, client_port, Address{server}, server_port);
  if (mnl_socket_sendto(socket.get(), h, h->nlmsg_len) < 0)
    return failed(errno);
  ssize_t got;
  do
    got = mnl_socket_recvfrom(socket.get(), buf, sizeof(buf));
  while (got < 0 && errno == EINTR);
  if (got < 0)
    return failed(errno);
  h = reinterpret_cast<nlmsghdr *>(buf);
  if (!mnl_nlmsg_ok(h, static_cast<int>(got)))
    return failed(EBADMSG);
  if (h->nlmsg_type == NLMSG_ERROR) {
    int code = 0;
    if (mnl_nlmsg_get_payload_len(h) >= sizeof(code))
      std::memcpy(&code, mnl_nlmsg_get_payload(h), sizeof(code));
    if (code == -ENOENT)
      return false;
    return failed(code < 0 ? -code : EBADMSG);
  }
  for (const nlattr *a : attributes(h, sizeof(nfgenmsg)))
    if (mnl_attr_get_type(a) == CTA_STATUS)
      return (ntohl(mnl_attr_get_u32(a)) & IPS_DST_NAT) != 0;
  return failed(EBADMSG);
}

} // namespace doppel
