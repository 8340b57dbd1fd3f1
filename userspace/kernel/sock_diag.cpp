// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/sock_diag.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>

#include "userspace/kernel/rtnl.h"
#include "userspace/util/fd.h"

namespace doppel {
namespace {
constexpr size_t kDumpBuffer = size_t{64} * 1024; // a dump comes in pieces of up to 32 KiB
constexpr uint32_t kNewSynReceived = 12;          // TCP_NEW_SYN_RECV, a request (Linux 4.4)
constexpr uint32_t kStates = 1u << TCP_ESTABLISHED | 1u << TCP_SYN_SENT | 1u << TCP_SYN_RECV |
                             1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSE_WAIT |
                             1u << TCP_LAST_ACK | 1u << TCP_CLOSING | 1u << kNewSynReceived;

struct Closer {
  void operator()(mnl_socket *s) const { mnl_socket_close(s); }
};
using Socket = std::unique_ptr<mnl_socket, Closer>;

// The filter is a program of forward jumps, counted in bytes, that accepts where a jump ends right
// behind it and refuses where it ends beyond (inet_diag_bc_run(), net/ipv4/inet_diag.c). The kernel
// takes only jumps that land on the chain of the `yes` (inet_diag_bc_audit()). For each range:
//     port >= first  or go to the next range
//     port <= last   or go to the next range
//     go to the end
class Filter {
public:
  void add(const PortRange &range, uint8_t at_least, uint8_t at_most) {
    comparison(at_least, range.first, 2 * kComparison + kJump);
    comparison(at_most, range.last, kComparison + kJump);
    op(INET_DIAG_BC_JMP, kJump, 0);
    jumps_.push_back(ops_.size() - 1);
  }

  size_t bytes() const { return ops_.size() * sizeof(ops_[0]); }

  const void *data() {
    for (const size_t i : jumps_) // the last jump is one of `yes` to the end, as are all others
      ops_[i].no = static_cast<uint16_t>((ops_.size() - i) * sizeof(ops_[0]));
    // Nor is there a range behind the last: to refuse is to jump over the end.
    const size_t last = ops_.size() - kOpsOfRange;
    ops_[last].no = static_cast<uint16_t>(2 * kComparison + kJump + sizeof(ops_[0]));
    ops_[last + 2].no = static_cast<uint16_t>(kComparison + kJump + sizeof(ops_[0]));
    return ops_.data();
  }

private:
  static constexpr uint8_t kComparison = 2 * sizeof(inet_diag_bc_op),
                           kJump = sizeof(inet_diag_bc_op);
  static constexpr size_t kOpsOfRange = 5;

  void op(uint8_t code, uint8_t yes, uint16_t no) { ops_.push_back({code, yes, no}); }
  void comparison(uint8_t code, uint16_t port, uint16_t no) {
    op(code, kComparison, no);
    op(0, 0, port); // the argument stands in the next word's `no`, in host order
  }

  std::vector<inet_diag_bc_op> ops_;
  std::vector<size_t> jumps_;
};

constexpr size_t kMaxFilter = 60'000; // its jumps are of 16 bits

dp_addr mapped(uint8_t family, const __be32 *words) {
  dp_addr a{};
  if (family == AF_INET6) {
    std::memcpy(&a, words, sizeof(a));
  } else {
    a.w[2] = htonl(0xffff);
    a.w[3] = words[0];
  }
  return a;
}

// Fields of struct tcp_info that came later than others (Linux 4.1 and 4.19), each at its offset.
void read_traffic(const nlattr *a, TcpSocket &s) {
  constexpr size_t kReceived = 128, kSent = 200; // tcpi_bytes_received, tcpi_bytes_sent
  static_assert(offsetof(tcp_info, tcpi_last_data_recv) == 52);
  const auto *info = static_cast<const char *>(mnl_attr_get_payload(a));
  const size_t size = mnl_attr_get_payload_len(a);
  const auto read = [&](size_t at, auto &value) {
    if (at + sizeof(value) <= size)
      std::memcpy(&value, info + at, sizeof(value));
  };
  read(offsetof(tcp_info, tcpi_last_data_sent), s.sent_ms);
  read(offsetof(tcp_info, tcpi_last_data_recv), s.received_ms);
  read(kReceived, s.bytes_received);
  read(kSent, s.bytes_sent);
}

TcpSocket read_socket(const nlmsghdr *h) {
  const auto *m = static_cast<const inet_diag_msg *>(mnl_nlmsg_get_payload(h));
  TcpSocket s;
  s.local = mapped(m->idiag_family, m->id.idiag_src);
  s.remote = mapped(m->idiag_family, m->id.idiag_dst);
  s.local_port = m->id.idiag_sport;
  s.remote_port = m->id.idiag_dport;
  s.state = m->idiag_state;
  s.held = m->idiag_inode != 0;
  s.ifindex = m->id.idiag_if;
  s.v6 = m->idiag_family == AF_INET6;
  for (const nlattr *a : attributes(h, sizeof(*m)))
    if (mnl_attr_get_type(a) == INET_DIAG_INFO)
      read_traffic(a, s);
    else if (mnl_attr_get_type(a) == INET_DIAG_SKV6ONLY)
      s.v6_only = mnl_attr_get_u8(a) != 0;
  return s;
}

Error failed(int code) {
  return sys_error("sockets of this host", "cannot be listed", code,
                   code == ENOENT ? "the kernel lacks CONFIG_INET_TCP_DIAG (module tcp_diag)" : "");
}

// The old form of the request, which alone may name no address family: inet_diag_dump_compat() then
// walks the table of sockets once, for all families. The new form would walk it for each.
Status dump(mnl_socket *socket, Filter &filter, SocketKind kind,
            const std::function<void(const TcpSocket &)> &see) {
  std::vector<uint64_t> request(
      (MNL_NLMSG_HDRLEN + sizeof(inet_diag_req) + MNL_ATTR_HDRLEN + filter.bytes() + 64) / 8);
  nlmsghdr *h = mnl_nlmsg_put_header(request.data());
  h->nlmsg_type = TCPDIAG_GETSOCK;
  h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  auto *r = static_cast<inet_diag_req *>(mnl_nlmsg_put_extra_header(h, sizeof(inet_diag_req)));
  r->idiag_family = AF_UNSPEC;
  r->idiag_states = kind == SocketKind::listening ? 1u << TCP_LISTEN : kStates;
  if (kind == SocketKind::with_traffic)
    r->idiag_ext = 1 << (INET_DIAG_INFO - 1);
  mnl_attr_put(h, INET_DIAG_REQ_BYTECODE, filter.bytes(), filter.data());
  if (mnl_socket_sendto(socket, h, h->nlmsg_len) < 0)
    return failed(errno);
  std::vector<uint64_t> buf(kDumpBuffer / 8);
  for (;;) {
    const ssize_t got = mnl_socket_recvfrom(socket, buf.data(), kDumpBuffer);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return failed(errno);
    int left = static_cast<int>(got);
    for (auto *m = reinterpret_cast<nlmsghdr *>(buf.data()); mnl_nlmsg_ok(m, left);
         m = mnl_nlmsg_next(m, &left)) {
      int code = 0;
      if (m->nlmsg_type == NLMSG_ERROR || m->nlmsg_type == NLMSG_DONE) {
        // Both begin with an error number, negative or 0.
        if (mnl_nlmsg_get_payload_len(m) >= sizeof(code))
          std::memcpy(&code, mnl_nlmsg_get_payload(m), sizeof(code));
        return code < 0 ? Status(failed(-code)) : Status(Unit{});
      }
      if (mnl_nlmsg_get_payload_len(m) >= sizeof(inet_diag_msg))
        see(read_socket(m));
    }
  }
}

} // namespace

Status each_tcp_socket(const SocketPorts &ports, const std::function<void(const TcpSocket &)> &see,
                       SocketKind kind) {
  if (ports.local.empty() && ports.remote.empty())
    return Unit{};
  Filter filter;
  for (const PortRange &range : ports.local)
    filter.add(range, INET_DIAG_BC_S_GE, INET_DIAG_BC_S_LE);
  for (const PortRange &range : ports.remote)
    filter.add(range, INET_DIAG_BC_D_GE, INET_DIAG_BC_D_LE);
  if (filter.bytes() > kMaxFilter)
    return failed(E2BIG);
  const Socket socket(mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC));
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return failed(errno);
  return dump(socket.get(), filter, kind, see);
}

bool server_goes_on(const TcpSocket &socket) {
  switch (socket.state) {
  case TCP_SYN_RECV:
  case TCP_ESTABLISHED:
  case TCP_CLOSE_WAIT:
    return true;
  case TCP_FIN_WAIT1:
  case TCP_FIN_WAIT2:
    return socket.held;
  default:
    return false;
  }
}

bool client_goes_on(const TcpSocket &socket) {
  return socket.state != TCP_FIN_WAIT2 && socket.state != TCP_TIME_WAIT;
}

} // namespace doppel
