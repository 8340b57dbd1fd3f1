// SPDX-License-Identifier: Apache-2.0
// Copies that come from their client's address (bpf/flow/kept.bpf.h): what the target says to a
// connection of the client's own, with the same two ends, goes on to the client.
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr char kAuth[] = "AUTH secret\r\n";
class KeptClient : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.mappings[0].targets[0].keep_client = true;
    c.mappings[0].targets[0].preamble = kAuth;
    return c;
  }
  // The packet reaches who comes behind us, and is not answered.
  void expect_passed(const Packet &p) {
    const Outcome o = respond(p);
    EXPECT_EQ(o.passed.size(), 1u) << to_hex(p.build());
    o.sent.none();
  }
  void expect_reset(const Packet &p) {
    const Frames sent = consumed(p);
    ASSERT_EQ(sent.size(), 1u) << sent.text();
    EXPECT_TRUE(sent[0].has(RST));
  }
};
DOPPEL_IPV4_MODES(KeptClient);

TEST_P(KeptClient, IsTheShadowsAddress) {
  open();
  EXPECT_EQ(target_.shadow, client_.ip);
  deliver(capture(client_.data(kGet)));
  EXPECT_EQ(target_.received, kGet);
}

// It would mean another host at the target (RFC 3927, 2.7).
TEST_P(KeptClient, IsNotALinkLocalOne) {
  client_.ip = Ip4("169.254.1.9");
  open();
  EXPECT_EQ(target_.shadow, cast().host);
}

TEST_P(KeptClient, APreambleIsAnswered) {
  const uint32_t first = client_.next;
  const Frames syns = capture(client_.data(kGet));
  ASSERT_EQ(syns.size(), 1u);
  target_.meets(syns[0]);
  EXPECT_EQ(target_.shadow, client_.ip);
  deliver(consumed(target_.syn_ack()));
  EXPECT_EQ(target_.received, kAuth);
  const Frames sent = consumed(target_.response("+OK\r\n"));
  sent.are({expected().made(first, PSH, kGet)});
}

// Its answers are the client's, before the shadow gives up and after.
TEST_P(KeptClient, AConnectionThatWasThereBeforeIsLeftAlone) {
  knock();
  ASSERT_FALSE(HasFatalFailure());
  const Packet challenge = target_.segment(777, 0).ack(424242),
               reset = target_.segment(777, RST).ack(424242);
  for (const Packet &p : {challenge, reset})
    expect_passed(p);
  plane().command(slot(), DP_CMD_RESET);
  collect();
  for (const Packet &p : {challenge, reset})
    expect_passed(p);
  expect_reset(target_.syn_ack()); // the shadow's
}

TEST_P(KeptClient, ATargetThatKnewTheShadowIsTold) {
  open();
  plane().command(slot(), DP_CMD_RESET);
  collect();
  expect_reset(target_.response("late"));
}

TEST_P(KeptClient, AConnectionThatBeginsAfterwardsIsTheClients) {
  open();
  plane().command(slot(), DP_CMD_RESET);
  collect();
  expect_passed(target_.segment(5000, SYN).ack(99));
  expect_passed(target_.segment(5001, PSH, "hello").ack(99));
}

TEST_P(KeptClient, WhatBeginsBehindAMappingThatIsRemovedIsTheClients) {
  open();
  plane().command(slot(), DP_CMD_RESET);
  collect();
  const dp_mapping row = plane().mapping();
  plane().put_mapping({});
  expect_passed(target_.segment(5000, SYN).ack(99));
  expect_passed(target_.segment(5001, PSH, "hello").ack(99));
  plane().put_mapping(row);
}

} // namespace
} // namespace doppel::bpftest
