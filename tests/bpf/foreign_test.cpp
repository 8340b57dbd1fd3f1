// SPDX-License-Identifier: Apache-2.0
// The return hook: what belongs to no shadow passes untouched; what pretends to belong to one is
// consumed and changes nothing (docs/design.md, The shadow; RFC 5961).
#include <cstring>

#include <linux/pkt_cls.h>

#include "doppel/names.h"
#include "tests/bpf/session.h"
#include "tests/packet/explain.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr uint16_t kPorts = 256; // more than this suite uses

class Foreign : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.limits.port_last = kShadowPort + kPorts - 1;
    return c;
  }

  void begin() override {
    open();
    deliver(capture(client_.data(kGet)));
    consumed(target_.ack());
    mark();
  }

  // The return program on this packet, by either way. Fails unless it passes untouched.
  void expect_passes(const Packet &p) {
    if (GetParam().way == Way::run) {
      ProgRun run;
      run.fd = plane().program(DP_PROG_RETURN);
      run.frame = p.build();
      run.ifindex = world().cap_index();
      EXPECT_EQ(harm_done(run, run.go()), "") << scapy(parse(run.frame));
      return;
    }
    const Outcome out = respond(p);
    ASSERT_EQ(out.passed.size(), 1u) << "the stack did not get the packet";
    EXPECT_EQ(to_hex(out.passed[0].frame), to_hex(p.build()));
  }

  // What a packet of the target may not move by itself.
  struct Numbers {
    unsigned state, una, nxt, end, wnd, rcv_nxt, ts_recent, flags;
    bool operator==(const Numbers &) const = default;
  };
  Numbers numbers() {
    const dp_shadow s = shadow();
    return {s.tcp.state, s.tcp.una,     s.tcp.nxt,       s.tcp.end,
            s.tcp.wnd,   s.tcp.rcv_nxt, s.tcp.ts_recent, s.tcp.flags & ~unsigned{DP_SH_TIMER}};
  }
};
DOPPEL_ALL_MODES(Foreign);

TEST_P(Foreign, WhatBelongsToNoShadowPasses) {
  const Packet ack = target_.ack();
  const bool six = World::families().target6;
  const struct {
    const char *name;
    Packet packet;
    bool device_only = false;
  } rows[] = {
      {"from another host", between(ack, "10.9.0.8", cast().host, six)},
      {"from another port of the target", Packet(ack).tcp(kTargetPort + 1, target_.shadow_port)},
      {"to another address of ours", between(ack, cast().target, "10.9.0.3", six)},
      {"to a port below the range", Packet(ack).tcp(kTargetPort, kShadowPort - 1)},
      {"to a port above the range", Packet(ack).tcp(kTargetPort, kShadowPort + kPorts)},
      {"to a shadow port that was never used",
       Packet(ack).tcp(kTargetPort, kShadowPort + kPorts - 1)},
      {"UDP to the shadow's port",
       Packet(ack).options({}).udp(kTargetPort, target_.shadow_port).payload("x")},
      {"of the other IP version", between(ack, cast().target, cast().host, !six)},
      {"ARP", Packet().mac(cast().target_mac, cast().host_mac).ethertype(0x0806).l3(Bytes(46))},
      {"VLAN tag", Packet(ack).vlan(5), true},
      {"later fragment", between(ack, cast().target, cast().host, false).fragment(800, false)},
      {"cut off", Packet(ack).truncate(six ? 60 : 40)},
  };
  for (const auto &row : rows) {
    SCOPED_TRACE(row.name);
    if (row.device_only && GetParam().way == Way::run)
      continue;
    expect_passes(row.packet);
    EXPECT_EQ(text(moved()), "");
  }
}

TEST_P(Foreign, ForgedSegmentsChangeNothing) {
  const uint32_t una = target_.received_next, rcv = target_.next;
  const struct {
    const char *name;
    Packet packet;
  } rows[] = {
      {"RST beyond the window", target_.segment(rcv + (64u << 20), RST)},
      {"RST below the window", target_.segment(rcv - (64u << 20), RST)},
      {"RST inside the window, not at its edge", target_.segment(rcv + 1000, RST)},
      {"SYN", target_.segment(rcv + 5, 0).flags(SYN)},
      {"SYN and RST beyond the window", target_.segment(rcv + (64u << 20), SYN | RST)},
      {"ACK of what was never sent", target_.segment(rcv, 0).ack(una + 100000)},
      {"ACK of long ago", target_.segment(rcv, 0).ack(una - (64u << 20))},
      {"data beyond the window", target_.segment(rcv + (64u << 20), PSH, "garbage").window(0)},
      {"data far below the window", target_.segment(rcv - (64u << 20), PSH, "garbage").window(0)},
      {"FIN beyond the window", target_.segment(rcv + (64u << 20), FIN)},
      {"window update of long ago", target_.segment(rcv - (64u << 20), 0).window(0)},
      {"window update from half the sequence space away",
       target_.segment(rcv + (1u << 31), 0).window(0)},
      {"ACK from half the sequence space away", target_.segment(rcv, 0).ack(una + (1u << 31))},
      {"timestamp from beyond the window",
       target_.segment(rcv + (64u << 20), 0).options(opt::linux_data(1u << 30, 1))},
  };
  const Numbers before = numbers();
  for (const auto &row : rows) {
    SCOPED_TRACE(row.name);
    mark();
    const Frames sent = consumed(row.packet);
    EXPECT_TRUE(numbers() == before);
    // A challenge ACK at most (RFC 5961, 3.2 and 4.2), and nothing that confirms the forger.
    EXPECT_LE(sent.size(), 1u);
    for (const View &v : sent)
      EXPECT_EQ(v.flags, ACK) << summary(v);
    EXPECT_EQ(text(difference(account(moved()), {{"event.unacceptable", 1}})).find("lost"),
              std::string::npos);
    EXPECT_EQ(moved()["delivered"], 0);
  }
  const Packet original = client_.data(kGet);
  capture(original).are({expected().copy_of(original, kGet)});
}

TEST_P(Foreign, UnacceptableSegmentsAreNotAnsweredEach) {
  const Packet beyond = target_.segment(target_.next, 0).ack(target_.received_next + 100000);
  mark();
  size_t answers = 0;
  for (int i = 0; i < 20; i++)
    answers += consumed(beyond).size();
  EXPECT_EQ(moved()["event.unacceptable"], 20);
  EXPECT_GE(answers, 1u);
  EXPECT_LT(answers, 10u) << "one in half a second";
}

// No number needs to be guessed for one.
TEST_P(Foreign, SynsAreNotAnsweredEach) {
  mark();
  size_t answers = 0;
  for (uint32_t i = 0; i < 20; i++)
    answers += consumed(target_.segment(i * 77777, 0).flags(i % 2 ? SYN : SYN | ACK)).size();
  EXPECT_EQ(moved()["event.unacceptable"], 20);
  EXPECT_GE(answers, 1u) << "our ACK of the SYN-ACK may have got lost";
  EXPECT_LT(answers, 10u) << "one in half a second";
}

TEST_P(Foreign, DamagedResponseChangesNothing) {
  // TC comes before TCP's own check: a damaged ACK would prove what never arrived.
  capture(client_.data(kGet));
  const Numbers before = numbers();
  mark();
  target_.received_next += sizeof kGet - 1;
  respond(target_.ack().wrong_l4_checksum());
  respond(target_.ack().partial_checksum());
  EXPECT_TRUE(numbers() == before);
  EXPECT_EQ(moved()["delivered"], 0);
}

TEST_P(Foreign, VerdictsOfConsumedPackets) {
  // By BPF_PROG_RUN alone: what the hook would do with the packet itself.
  ProgRun run;
  run.fd = plane().program(DP_PROG_RETURN);
  run.ifindex = world().cap_index();
  const auto verdict = [&](const Packet &p) {
    run.frame = p.build();
    const RunResult r = run.go();
    EXPECT_EQ(r.error, 0);
    return r.verdict;
  };
  EXPECT_EQ(verdict(target_.ack()), TC_ACT_SHOT) << "nothing to say";
  EXPECT_EQ(verdict(target_.response("STORED\r\n")), TC_ACT_REDIRECT) << "turned around as an ACK";
  const View bounced = parse(run.go().data);
  EXPECT_EQ(bounced.faults.size(), 0u);
  EXPECT_EQ(bounced.src, cast().host_mac);
  EXPECT_EQ(bounced.dst, cast().target_mac);
  EXPECT_EQ(bounced.flags, ACK);
  EXPECT_EQ(bounced.ack, target_.next);
  EXPECT_TRUE(bounced.payload.empty());
}

TEST_P(Foreign, ResponsesToTwoShadowsOfOneTargetAreToldApart) {
  const Target first = target_;
  const Client first_client = client_;
  next_client();
  target_.isn = target_.next = 3000000;
  open();
  const Frames sent = consumed(target_.response("STORED\r\n"));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].sport, target_.shadow_port);
  target_ = first;
  client_ = first_client;
  consumed(target_.response("END\r\n")).are({expected().made(client_.next, 0)});
}

} // namespace
} // namespace doppel::bpftest
