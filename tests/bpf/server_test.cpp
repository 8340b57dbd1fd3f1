// SPDX-License-Identifier: Apache-2.0
// On a server a shadow begins only where one of its sockets takes the packet: what a stranger
// sends reaches TC before any firewall. Here the stack of this host is the source.
#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bpf/session.h"
#include "tests/packet/explain.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

class Server : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.mappings[0].any_host = false;
    return c;
  }

  void begin() override {
    const bool six = World::families().client6;
    sh("ip neigh replace " + (six ? v6_of(client_.ip).text() : client_.ip.text()) + " lladdr " +
       cast().client_mac.text() + " dev cap0 nud permanent");
    const SocketAddress self(cast().host, kPort, six);
    listener_ = socket(self.raw.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ASSERT_EQ(bind(listener_, self.get(), self.size), 0);
    ASSERT_EQ(listen(listener_, 8), 0);
  }
  void TearDown() override {
    close(listener_);
    forget_source();
    Session::TearDown();
  }
  // Without a word (TCP_REPAIR): a FIN that nobody acknowledges would be sent again in later tests.
  void forget_source() {
    const int on = 1;
    setsockopt(source_, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on);
    close(source_);
    source_ = -1;
  }

  // To this host instead of the server that is not there.
  static Packet here(const Packet &p) {
    return between(p, cast().client, cast().host, World::families().client6);
  }
  // What left toward the target; the stack's answers to the client are put aside.
  Frames play(const Packet &p) {
    wire().far().send(here(p).build());
    Frames all = collect().sent, out;
    for (const View &v : all)
      if (v.is_ip6 ? v.ip6_dst == v6_of(cast().target) : v.ip_dst == cast().target)
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

  // The handshake with source and target.
  void establish() {
    greet();
    const Frames sent = play(client_.ack());
    ASSERT_EQ(sent.size(), 1u) << sent.text();
    target_.meets(sent[0]);
    consumed(target_.syn_ack());
    source_ = accept(listener_, nullptr, nullptr);
    ASSERT_GE(source_, 0);
    mark();
  }
  // What the source's application reads now.
  std::string read() const {
    char text[1024];
    const ssize_t n = recv(source_, text, sizeof text, MSG_DONTWAIT);
    return {text, n > 0 ? static_cast<size_t>(n) : 0};
  }

  // The source's socket takes no text that begins so, as if it had been lost behind capture.
  void source_drops(char first) const {
    sock_filter others[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 32), // behind 20 bytes and a timestamp
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<__u32>(first), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0), BPF_STMT(BPF_RET | BPF_K, 1 << 16)};
    const sock_fprog filter{std::size(others), others};
    ASSERT_EQ(setsockopt(source_, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter), 0);
  }

  int listener_ = -1, source_ = -1;
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

// Linux keeps a piece that begins before the one that it meets, and what lies wholly within one.
TEST_P(Server, OverlapBeyondAHoleIsWhatTheSourceKeeps) {
  struct Piece {
    uint32_t from, length;
    char text;
  };
  const std::vector<Piece> plays[] = {
      {{100, 100, 'a'}, {150, 100, 'b'}},                  // ends later
      {{150, 100, 'a'}, {100, 100, 'b'}},                  // begins earlier
      {{100, 200, 'a'}, {150, 50, 'b'}},                   // lies within
      {{150, 50, 'a'}, {100, 200, 'b'}},                   // has it within
      {{100, 50, 'a'}, {100, 100, 'b'}},                   // begins with it
      {{100, 100, 'a'}, {150, 100, 'b'}, {200, 100, 'c'}}, // and once more
  };
  for (const std::vector<Piece> &pieces : plays) {
    SCOPED_TRACE(testing::PrintToString(&pieces - plays));
    client_ = Client{};
    client_.port = unused_port();
    target_ = Target{};
    establish();
    ASSERT_FALSE(HasFatalFailure());
    const uint32_t start = client_.next;
    for (const Piece &p : pieces)
      play(client_.segment(start + p.from, PSH, std::string(p.length, p.text))).none();
    deliver(play(client_.segment(start, PSH, std::string(100, 'x'))));
    for (int i = 0; i < 3; i++)
      deliver(consumed(target_.ack()));
    EXPECT_EQ(target_.received, read());
    EXPECT_EQ(moved()["observed"], static_cast<int64_t>(target_.received.size()));
    forget_source();
  }
}

TEST_P(Server, WhatTheSourceTookBeforeItsEndIsCounted) {
  establish();
  const uint32_t start = client_.next;
  play(client_.segment(start + 100, PSH, filler(100))).none();
  deliver(play(client_.segment(start, PSH, filler(100))));
  EXPECT_EQ(moved()["observed"], 100) << "the source has not been asked since";
  close(source_); // with text unread: a reset, and the socket is gone
  deliver(play(client_.segment(start + 200, FIN)));
  EXPECT_EQ(moved()["observed"], 200);
  EXPECT_EQ(moved()["event.source_gone"], 1);
  EXPECT_EQ(target_.received.size(), 200u);
}

// Its RCV.NXT counts the client's FIN a moment before its state tells of it. That moment cannot be
// held: the FIN is dropped by the source's own filter, and RCV.NXT moved by TCP_REPAIR.
TEST_P(Server, ASourceThatCountsTheFinAlreadyIsMissingNothing) {
  establish();
  deliver(play(client_.data(kGet)));
  sock_filter no_fin[] = {BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13), // of the TCP header: flags
                          BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, FIN, 0, 1),
                          BPF_STMT(BPF_RET | BPF_K, 0), BPF_STMT(BPF_RET | BPF_K, 1 << 16)};
  const sock_fprog filter{std::size(no_fin), no_fin};
  ASSERT_EQ(setsockopt(source_, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter), 0);
  const Packet last = client_.segment(client_.next, FIN);
  const Frames fin = play(last);
  ASSERT_EQ(fin.size(), 1u) << fin.text();
  EXPECT_TRUE(fin[0].has(FIN)) << "the shadow has it";
  consumed(target_.ack());
  const int on = 1, off = -1, queue = TCP_RECV_QUEUE; // -1: without a window probe
  ASSERT_EQ(setsockopt(source_, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on), 0);
  ASSERT_EQ(setsockopt(source_, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof queue), 0);
  ASSERT_EQ(send(source_, "x", 1, 0), 1);
  ASSERT_EQ(setsockopt(source_, IPPROTO_TCP, TCP_REPAIR, &off, sizeof off), 0);
  ASSERT_EQ(read(), std::string(kGet) + "x");
  play(last);
  EXPECT_EQ(text(account(moved())), text(Counts{{"delivered", 7}, {"observed", 7}}));
}

TEST_P(Server, AFinThatCameBeforeItsTextIsSent) {
  establish();
  play(client_.segment(client_.next + sizeof kGet - 1, FIN)).none();
  deliver(play(client_.data(kGet)));
  const Frames fin = consumed(target_.ack());
  ASSERT_EQ(fin.size(), 1u) << "the source has it: " << fin.text();
  EXPECT_TRUE(fin[0].has(FIN)) << fin.text();
}

TEST_P(Server, TextThatCoversAFinIsText) {
  establish();
  const uint32_t start = client_.next;
  const std::string end(51, 'y');
  play(client_.segment(start + 100, FIN)).none();
  play(client_.segment(start + 50, PSH, end)).none();
  deliver(play(client_.segment(start, PSH, std::string(50, 'x'))));
  deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, std::string(50, 'x') + end);
  EXPECT_EQ(target_.received, read());
  EXPECT_EQ(moved()["observed"], 101);
}

// Capture has filled the hole, and is not told yet that the source went on with what lay beyond.
TEST_P(Server, WhatLayBeyondAHoleThatIsFilledStays) {
  establish();
  const uint32_t start = client_.next;
  play(client_.segment(start + 5, PSH, "AAAAA")).none();
  deliver(play(client_.segment(start, PSH, "fffff")));
  deliver(play(client_.segment(start + 5, PSH, "BBBBB")));
  deliver(play(client_.segment(start + 10, PSH, "end")));
  deliver(consumed(target_.ack()));
  deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, "fffffAAAAAend");
  EXPECT_EQ(target_.received, read());
}

// Text beyond a hole that the source itself drops, and that comes again with other content.
TEST_P(Server, WhatTheSourceDroppedBeyondAHoleDoesNotStay) {
  establish();
  source_drops('E');
  const uint32_t start = client_.next;
  play(client_.segment(start + 5, PSH, "EVIL!")).none();
  deliver(play(client_.segment(start, PSH, "fffff")));
  deliver(play(client_.segment(start + 5, PSH, "good!")));
  deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, "fffffgood!");
  EXPECT_EQ(target_.received, read());
}

// As of a reload: what the shadow took and the source has not read yet is counted already.
TEST_P(Server, AFlowThatIsForgottenIsNotCountedAgain) {
  establish();
  source_drops('f');
  const uint32_t start = client_.next;
  deliver(play(client_.segment(start, PSH, "fffff")));
  consumed(target_.ack());
  plane().expire(client_, 0, DP_CMD_EXPIRE, cast().host);
  collect();
  EXPECT_EQ(moved()["observed"], 5);
  EXPECT_EQ(moved()["delivered"], 5);
  const int off = 0;
  ASSERT_EQ(setsockopt(source_, SOL_SOCKET, SO_DETACH_FILTER, &off, sizeof off), 0);
  play(client_.segment(start + 5, PSH, "other")).none();
  play(client_.segment(start, PSH, "fffff")).none();
  play(client_.segment(start + 10, PSH, "words")).none();
  EXPECT_EQ(read(), "fffffotherwords");
  EXPECT_EQ(moved()["observed"], 15);
  EXPECT_EQ(moved()["excluded.not_joined"], 10);
}

TEST_P(Server, OfSeveralTimestampsTheLastCounts) {
  establish();
  deliver(play(client_.data(kGet)));
  Packet old = client_.segment(client_.next, PSH, "evil");
  old.options({opt::nop(), opt::nop(), opt::timestamps(client_.tsval, client_.tsecr), opt::nop(),
               opt::nop(), opt::timestamps(client_.tsval - 5000, client_.tsecr)});
  play(old).none();
  EXPECT_EQ(moved()["observed"], 7);
  EXPECT_EQ(read(), kGet) << "nor does the source take it";
}

TEST_P(Server, AnOldTimestampIsOneInAnyLayout) {
  establish();
  deliver(play(client_.data(kGet)));
  Packet old = client_.segment(client_.next, PSH, "evil");
  Bytes stamp = opt::timestamps(client_.tsval - 5000, client_.tsecr);
  old.options({stamp, opt::nop(), opt::nop()});
  play(old).none();
  EXPECT_EQ(moved()["observed"], 7);
  EXPECT_EQ(read(), kGet) << "nor does the source take it";
}

TEST_P(Server, AnOldTimestampCompletesNoHandshake) {
  greet();
  client_.tsval -= 5000;
  play(client_.segment(client_.next, PSH, "evil")).none();
  EXPECT_EQ(moved()["observed"], 0);
  client_.tsval += 5000;
  const Frames sent = play(client_.data(kGet));
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_EQ(moved()["observed"], 7);
}

// By the slow path (another window): by the fast one Linux does not look at an old acknowledgement.
TEST_P(Server, AnAcknowledgementFromBeforeTheStreamIsNone) {
  establish();
  deliver(play(client_.data(kGet)));
  Client stranger = client_;
  stranger.server_next -= 2000;
  stranger.window++;
  play(stranger.segment(client_.next, PSH, "evil")).none();
  EXPECT_EQ(moved()["observed"], 7);
  EXPECT_EQ(read(), kGet) << "nor does the source take it";
}

// Kernel 6.17 takes nothing that ends beyond the window while something waits to be read; those
// before take it. The acknowledgement that it answers tells which one this is.
TEST_P(Server, WhatEndsBeyondTheWindowIsTheSourcesToTake) {
  establish();
  deliver(play(client_.data(kGet)));
  const uint32_t edge = last_answer_.ack + (uint32_t{last_answer_.window} << 7);
  mark();
  play(client_.segment(edge - 50, PSH, filler(100))).none();
  const bool takes = !last_answer_.options.sack.empty();
  EXPECT_EQ(moved()["event.out_of_order"], takes ? 1 : 0);
  EXPECT_EQ(moved()["event.no_socket"], takes ? 0 : 1);
}

TEST_P(Server, FramesForAnotherMacAreNotCaptured) {
  wire().far().send(here(client_.data(kGet)).mac(cast().client_mac, "02:00:00:00:00:99").build());
  EXPECT_TRUE(collect().sent.empty());
  EXPECT_EQ(text(moved()), "");
}

} // namespace
} // namespace doppel::bpftest
