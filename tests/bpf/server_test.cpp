// SPDX-License-Identifier: Apache-2.0
// On a server a shadow begins only where one of its sockets takes the packet: what a stranger
// sends reaches TC before any firewall. Here the stack of this host is the source.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bpf/session.h"
#include "tests/packet/explain.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr char kGet[] = "get k\r\n";

class Server : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.mappings[0].any_host = false;
    return c;
  }

  void begin() override {
    sh("ip neigh replace " + client_.ip.text() + " lladdr " + cast().client_mac.text() +
       " dev cap0 nud permanent");
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in self{};
    self.sin_family = AF_INET;
    self.sin_addr.s_addr = cast().host.network();
    self.sin_port = htons(kPort);
    ASSERT_EQ(bind(listener_, reinterpret_cast<sockaddr *>(&self), sizeof self), 0);
    ASSERT_EQ(listen(listener_, 8), 0);
  }
  void TearDown() override {
    close(listener_);
    Session::TearDown();
  }

  // To this host instead of the server that is not there.
  static Packet here(Packet p) { return p.ip4(cast().client, cast().host); }
  // What left toward the target; the stack's answers to the client are put aside.
  Frames play(const Packet &p) {
    wire().far().send(here(p).build());
    Frames all = collect().sent, out;
    for (const View &v : all)
      if (v.ip_dst == cast().target)
        out.push_back(v);
      else
        last_answer_ = v;
    EXPECT_EQ(plane().identity_broken(), "");
    return out;
  }
  // The client's SYN, and the stack's SYN-ACK to it.
  void greet() {
    play(client_.syn()).none();
    ASSERT_TRUE(last_answer_.has(SYN | ACK)) << summary(last_answer_);
    client_.server_next = last_answer_.seq + 1;
    ASSERT_TRUE(last_answer_.options.timestamps);
    client_.tsecr = last_answer_.options.timestamps->first;
  }

  int listener_ = -1;
  View last_answer_;
};
DOPPEL_HOOK_MODES(Server);

TEST_P(Server, HandshakeOfASocketOpensTheShadow) {
  greet();
  const Frames sent = play(client_.ack());
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_EQ(sent[0].flags, SYN);
  EXPECT_EQ(sent[0].seq, client_.isn);
  target_.meets(sent[0]);
  consumed(target_.syn_ack()).are({expected().made(client_.isn + 1, 0)});
  const Packet request = client_.data(kGet);
  play(request).are({expected().copy_of(here(request), kGet)});
}

TEST_P(Server, FirstDataOpensItAsWell) {
  greet();
  const Frames sent = play(client_.data(kGet));
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_EQ(sent[0].flags, SYN);
  EXPECT_EQ(moved()["in_flight"], 7);
}

TEST_P(Server, ForgedAckOpensNothing) {
  greet();
  client_.server_next += 12345;
  play(client_.ack()).none();
  play(client_.data(kGet)).none();
  EXPECT_EQ(moved()["opened"], 0);
  EXPECT_EQ(moved()["observed"], 0) << "what the source does not take is no request";
  EXPECT_GE(moved()["event.no_socket"], 1);
}

TEST_P(Server, WithoutASocketNothingBegins) {
  client_.server_port = kPort + 1; // captured, but nobody listens
  play(client_.syn()).none();
  play(client_.ack()).none();
  play(client_.data(kGet)).none();
  expect_account({{"event.no_socket", 1}});
  EXPECT_EQ(new_flow_entries(), 0) << "a stranger must not fill the flow table";
}

TEST_P(Server, StrangersRequestJoinsNothing) {
  play(client_.data(kGet)).none();
  expect_account({{"event.no_socket", 1}});
}

TEST_P(Server, ForgedNewConnectionDoesNotSupersede) {
  greet();
  const Frames sent = play(client_.ack());
  ASSERT_EQ(sent.size(), 1u);
  target_.meets(sent[0]);
  consumed(target_.syn_ack());
  const Client honest = client_;
  client_.isn = 0x70000000;
  play(client_.syn()).none();
  play(client_.ack()).none();
  client_ = honest;
  EXPECT_EQ(moved()["opened"], 1);
  const Packet request = client_.data(kGet);
  play(request).are({expected().copy_of(here(request), kGet)});
}

TEST_P(Server, FramesForAnotherMacAreNotCaptured) {
  wire().far().send(here(client_.data(kGet)).mac(cast().client_mac, "02:00:00:00:00:99").build());
  EXPECT_TRUE(collect().sent.empty());
  EXPECT_EQ(text(moved()), "");
}

} // namespace
} // namespace doppel::bpftest
