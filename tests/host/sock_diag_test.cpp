// SPDX-License-Identifier: Apache-2.0
// Which sockets the kernel lists, and what their states say, with real ones.
#include "userspace/kernel/sock_diag.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "tests/host/host.h"
#include "tests/host/sockets.h"
#include "userspace/kernel/conntrack.h"

namespace doppel::hosttest {
namespace {
std::vector<TcpSocket> list(const SocketPorts &ports) {
  std::vector<TcpSocket> all;
  auto s = each_tcp_socket(ports, [&](const TcpSocket &t) { all.push_back(t); });
  EXPECT_TRUE(s) << text(s ? Errors{} : s.errors());
  return all;
}

SocketPorts local(uint16_t first, uint16_t last) { return {{{first, last}}, {}}; }

} // namespace

class SockDiag : public Host {};

TEST_F(SockDiag, TellsBothEndsInNetworkOrder) {
  Fd l = listener(11211);
  Pair p = connected(l);
  auto all = list(local(11211, 11211));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].local_port, htons(11211));
  EXPECT_EQ(all[0].remote_port, htons(port_of(p.client.get())));
  EXPECT_EQ(Address{all[0].local}, kHere);
  EXPECT_EQ(Address{all[0].remote}, kHere);
  EXPECT_EQ(all[0].state, TCP_ESTABLISHED);
  EXPECT_TRUE(all[0].held);
  all = list({{}, {{11211, 11211}}});
  ASSERT_EQ(all.size(), 1u) << "the client's end";
  EXPECT_EQ(all[0].remote_port, htons(11211));
}

TEST_F(SockDiag, FiltersByEveryRange) {
  std::vector<Fd> listeners;
  std::vector<Pair> pairs;
  for (uint16_t port : {1000, 1001, 1002, 2000, 3000, 3001, 65535}) {
    listeners.push_back(listener(port));
    pairs.push_back(connected(listeners.back()));
  }
  const auto ports = [](const SocketPorts &p) {
    std::vector<uint16_t> found;
    for (const TcpSocket &s : list(p))
      found.push_back(ntohs(s.local_port));
    std::sort(found.begin(), found.end());
    return found;
  };
  using Ports = std::vector<uint16_t>;
  EXPECT_EQ(ports({{}, {}}), Ports{});
  EXPECT_EQ(ports(local(1000, 1001)), (Ports{1000, 1001}));
  EXPECT_EQ(ports(local(1001, 2999)), (Ports{1001, 1002, 2000}));
  EXPECT_EQ(ports({{{1002, 1002}, {3000, 3001}, {65535, 65535}}, {}}),
            (Ports{1002, 3000, 3001, 65535}));
  EXPECT_EQ(ports({{{2000, 2000}, {1, 999}}, {}}), Ports{2000});
  EXPECT_EQ(ports({{{1, 999}, {2000, 2000}}, {}}), Ports{2000});
  EXPECT_EQ(ports({{{1000, 1000}}, {{2000, 2000}}}).size(), 2u);
  SocketPorts many; // more than a page of filter
  for (uint16_t port = 1; port < 999; port += 2)
    many.local.push_back({port, port});
  EXPECT_EQ(ports(many), Ports{});
  many.local.push_back({3001, 3001});
  EXPECT_EQ(ports(many), Ports{3001});
}

TEST_F(SockDiag, SeesIPv4OfADualStackListener) {
  Fd l = listener(11211, AF_INET6);
  Pair p = connected(l);
  auto all = list(local(11211, 11211));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(Address{all[0].local}, kHere);
  EXPECT_TRUE(server_goes_on(all[0]));
}

TEST_F(SockDiag, AConnectionThatNobodyAcceptedGoesOn) {
  Fd l = listener(11211);
  Fd client = dial(11211);
  auto all = list(local(11211, 11211));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_FALSE(all[0].held);
  EXPECT_TRUE(server_goes_on(all[0]));
}

TEST_F(SockDiag, ARequestGoesOn) {
  // The last ACK of the handshake never comes to the server.
  Fd l = listener(11211);
  sh("nft 'add table ip t; add chain ip t in { type filter hook input priority 0; }; "
     "add rule ip t in tcp flags & (syn|ack) == ack tcp dport 11211 drop'");
  Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(11211);
  a.sin_addr.s_addr = kHere.raw.w[3];
  ::connect(client.get(), reinterpret_cast<sockaddr *>(&a), sizeof(a));
  EXPECT_TRUE(soon([] {
    auto all = list(local(11211, 11211));
    return all.size() == 1 && all[0].state == TCP_SYN_RECV && server_goes_on(all[0]);
  }));
}

TEST_F(SockDiag, EndsOfTheServer) {
  Fd l = listener(11211);
  const auto state = [] {
    auto all = list(local(11211, 11211));
    return all.size() == 1 ? int{all[0].state} : 0;
  };
  const auto goes_on = [] {
    auto all = list(local(11211, 11211));
    return std::any_of(all.begin(), all.end(), server_goes_on);
  };
  {
    Pair p = connected(l); // half closed: it answers nothing more and reads on
    ::shutdown(p.server.get(), SHUT_WR);
    EXPECT_TRUE(soon([&] { return state() == TCP_FIN_WAIT2; }));
    EXPECT_TRUE(goes_on());
    p.server = Fd(); // closed: Linux takes no byte any more
    EXPECT_TRUE(soon([&] { return !goes_on(); }));
  }
  EXPECT_TRUE(soon([&] { return state() == 0; }));
  {
    Pair p = connected(l);
    ::shutdown(p.client.get(), SHUT_WR);
    EXPECT_TRUE(soon([&] { return state() == TCP_CLOSE_WAIT; }));
    EXPECT_TRUE(goes_on());
  }
  {
    Pair p = connected(l); // closed with a byte unread, as a process that is killed does: RST
    EXPECT_EQ(::write(p.client.get(), "x", 1), 1);
    EXPECT_TRUE(soon([&] {
      char c;
      return ::recv(p.server.get(), &c, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
    }));
    p.server = Fd();
    EXPECT_TRUE(soon([&] { return list(local(11211, 11211)).empty(); }));
  }
}

TEST_F(SockDiag, EndsOfTheClient) {
  Fd l = listener(11211);
  const SocketPorts remote{{}, {{11211, 11211}}};
  const auto goes_on = [&] {
    auto all = list(remote);
    return std::any_of(all.begin(), all.end(), client_goes_on);
  };
  Pair p = connected(l);
  EXPECT_TRUE(goes_on());
  // Closed with more than the window takes: it sends on, and no process holds it.
  const std::string much(1 << 16, 'x');
  while (::send(p.client.get(), much.data(), much.size(), MSG_DONTWAIT) > 0) {
  }
  p.client = Fd();
  auto all = list(remote);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].state, TCP_FIN_WAIT1);
  EXPECT_FALSE(all[0].held);
  EXPECT_TRUE(client_goes_on(all[0]));
  std::vector<char> sink(1 << 16);
  EXPECT_TRUE(soon([&] {
    while (::recv(p.server.get(), sink.data(), sink.size(), MSG_DONTWAIT) > 0) {
    }
    return !goes_on();
  }));
}

TEST_F(SockDiag, OtherNamespacesAreNotSeen) {
  Fd l = listener(11211);
  Pair p = connected(l);
  ASSERT_EQ(list(local(11211, 11211)).size(), 1u);
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
  EXPECT_TRUE(list(local(11211, 11211)).empty());
}

TEST_F(SockDiag, ConntrackTellsWhereAnotherDestinationIs) {
  Fd l = listener(11211);
  const auto other = [](const Pair &p, uint16_t port) {
    auto r =
        has_other_destination(kHere.raw, htons(port_of(p.client.get())), kHere.raw, htons(port));
    EXPECT_TRUE(r) << text(r ? Errors{} : r.errors());
    return r && *r;
  };
  EXPECT_FALSE(other(connected(l), 11211));
  sh("nft 'add table ip t; add chain ip t out { type nat hook output priority -100; }; "
     "add rule ip t out tcp dport 80 redirect to :11211'");
  EXPECT_FALSE(other(connected(l), 11211)) << "tracked, and not translated";
  Pair p{dial(80), Fd(::accept4(l.get(), nullptr, nullptr, SOCK_CLOEXEC))};
  EXPECT_TRUE(other(p, 80));
  EXPECT_TRUE(list(local(80, 80)).empty()) << "its socket has the other port";
}

} // namespace doppel::hosttest
