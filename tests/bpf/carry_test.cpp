// SPDX-License-Identifier: Apache-2.0
// A quiet shadow whose path has died: what its client says next goes by a new one (docs/design.md,
// Congestion and loss; docs/trust.md).
#include "tests/bpf/session.h"
#include "tests/packet/explain.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr char kGetA[] = "get a\r\n", kIncr[] = "incr n 1\r\n";

class IdleBreak : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.limits.rto_min_ms = 40;
    c.limits.rto_max_ms = 60;
    c.limits.tries = 1;
    return c;
  }
  void begin() override {
    open();
    deliver(capture(client_.data(kGetA)));
    consumed(target_.ack()).none();
    mark();
    said_ = client_.next;
  }
  void wake() { ASSERT_TRUE(plane().wait_for_wake(slot(), 5000)) << "nothing is due"; }
  Frames serve() {
    plane().command(slot(), DP_CMD_RESEND);
    return collect().sent;
  }
  bool is_given_up() { return shadow().tcp.flags & DP_SH_CARRY; }
  // The client says this, and nothing comes back until the shadow is to be given up. Nothing of
  // that is done yet.
  void say_into_the_void(const std::string &text) {
    capture(client_.data(text));
    for (int i = 0; i < 20 && !is_given_up(); i++) {
      wake();
      if (!is_given_up())
        serve();
    }
    ASSERT_TRUE(is_given_up());
  }
  // Returns the SYN of the new shadow.
  View carried() {
    const Frames sent = serve();
    EXPECT_EQ(sent.size(), 2u) << sent.text();
    if (sent.size() != 2)
      return {};
    EXPECT_EQ(sent[0].flags, RST | ACK) << "one that is no longer heard may hear";
    EXPECT_EQ(sent[1].flags, SYN);
    EXPECT_EQ(sent[1].seq, said_ - 1) << "only what is not acknowledged";
    EXPECT_EQ(moved()["event.idle_break"], 1);
    target_ = Target{};
    target_.meets(sent[1]);
    return sent[1];
  }
  uint32_t said_ = 0; // what the target has acknowledged ends here
};
DOPPEL_ALL_MODES(IdleBreak);

TEST_P(IdleBreak, ANewShadowTakesWhatWasNotAcknowledged) {
  say_into_the_void(kIncr);
  carried();
  deliver(consumed(target_.syn_ack()));
  consumed(target_.ack()).none();
  EXPECT_EQ(target_.received, kIncr);
  EXPECT_EQ(moved()["delivered"], sizeof kIncr - 1);
}

TEST_P(IdleBreak, TheNewOneWaitsAsLongAsOthersMeasured) {
  say_into_the_void(kIncr);
  carried();
  EXPECT_LE(shadow().tcp.rto_ms, 60u) << "not the second of RFC 6298";
}

TEST_P(IdleBreak, AnAcknowledgementInTheLastMomentCounts) {
  say_into_the_void(kIncr);
  target_.received_next = client_.next;
  consumed(target_.ack());
  serve().none();
  EXPECT_FALSE(is_given_up());
  EXPECT_EQ(shadow().tcp.state, DP_ESTABLISHED);
  EXPECT_EQ(moved()["delivered"], sizeof kIncr - 1);
  EXPECT_EQ(moved()["event.idle_break"], 0);
  client_.tsval += 100; // later than any resend's own
  const Packet next = client_.data(kGetA);
  capture(next).are({expected().copy_of(next, kGetA)});
}

TEST_P(IdleBreak, AnAnswerInTheLastMomentCounts) {
  say_into_the_void(kIncr);
  target_.received_next = client_.next;
  consumed(target_.response("1\r\n"));
  for (const View &v : serve())
    EXPECT_EQ(v.flags, ACK) << summary(v);
  EXPECT_EQ(moved()["delivered"], sizeof kIncr - 1);
  EXPECT_EQ(moved()["event.idle_break"], 0);
}

TEST_P(IdleBreak, WhatIsPartlyAcknowledgedIsNotSaidAgain) {
  // In the midst of a request no new connection can begin, and from its beginning it would be
  // twice.
  capture(client_.data(kIncr));
  target_.received_next = said_ + 4;
  consumed(target_.ack());
  const unsigned before = slot();
  for (int i = 0; i < 20 && shadow().tcp.state == DP_ESTABLISHED; i++) {
    wake();
    for (const View &v : serve())
      EXPECT_FALSE(v.has(SYN)) << summary(v);
  }
  EXPECT_EQ(slot(), before);
  EXPECT_EQ(moved()["lost.target_timeout"], sizeof kIncr - 1 - 4);
  EXPECT_EQ(moved()["event.idle_break"], 0);
}

} // namespace
} // namespace doppel::bpftest
