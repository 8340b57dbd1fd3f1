// SPDX-License-Identifier: Apache-2.0
// Losses on the way to the target (docs/design.md, The shadow; RFC 5681, 6298, 6675).
#include "tests/bpf/session.h"
#include "userspace/util/clock.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr size_t kSize = 1448; // of each segment of these tests: what one can carry at most

class Loss : public Session {
protected:
  void begin() override {
    open();
    consumed(target_.ack()).none(); // its window, as all later ACKs tell it
  }
  // `n` segments leave, and nothing of them arrives.
  void send_and_lose(unsigned n) {
    for (unsigned i = 0; i < n; i++)
      ASSERT_EQ(capture(client_.data(segment_text(i))).size(), 1u);
    mark();
  }
  static std::string segment_text(unsigned i) { return filler(kSize, i); }
  uint32_t at(unsigned i) const { return client_.isn + 1 + static_cast<uint32_t>(i * kSize); }
  // An ACK at the first hole that reports segments [from, to) as arrived.
  Packet sack(unsigned from, unsigned to) {
    return target_.ack().options({opt::nop(), opt::nop(),
                                  opt::timestamps(target_.tsval, client_.tsval), opt::nop(),
                                  opt::nop(), opt::sack({{at(from), at(to)}})});
  }
  // The first resend of a recovery has a timestamp of its own, and so has what follows it.
  View resent(unsigned i) {
    Client stamped = client_;
    stamped.tsval++;
    return Expected{stamped, target_}.made(at(i), PSH, segment_text(i));
  }
};
DOPPEL_ALL_MODES(Loss);

// PSH is the resender's choice.
const std::vector<std::string> kPush = {"tcp.flags"};

TEST_P(Loss, ThreeDuplicateAcks) {
  send_and_lose(5);
  consumed(target_.ack()).none();
  consumed(target_.ack()).none();
  consumed(target_.ack()).are({resent(0)}, kPush);
  EXPECT_EQ(moved()["event.fast_retransmit"], 1);
  EXPECT_EQ(moved()["resent"], 1);
  EXPECT_EQ(moved()["copied"], 0);
  consumed(target_.ack()).none();
  EXPECT_EQ(moved()["resent"], 1) << "once for one loss";
}

TEST_P(Loss, PartialAckShowsTheNextHole) {
  // Without SACK: RFC 6582, 3.2.
  next_client();
  target_.offer.sack = false;
  begin();
  send_and_lose(5);
  for (int i = 0; i < 3; i++)
    consumed(target_.ack());
  target_.received_next = at(2);
  target_.tsecr = client_.tsval + 1; // the resend's
  consumed(target_.ack()).are({resent(2)}, kPush);
  target_.received_next = at(5);
  consumed(target_.ack()).none();
  EXPECT_EQ(moved()["resent"], 2);
  EXPECT_EQ(moved()["delivered"], static_cast<int64_t>(5 * kSize));
}

TEST_P(Loss, SackNamesTheHoles) {
  send_and_lose(6);
  // 0 and 3 are lost.
  target_.received_next = at(0);
  Frames sent;
  for (auto [from, to] : {std::pair{4u, 6u}, {1u, 3u}})
    for (const View &v : consumed(sack(from, to)))
      sent.push_back(v);
  sent.are({resent(0), resent(3)}, kPush);
  target_.received_next = at(6);
  consumed(target_.ack()).none();
  EXPECT_EQ(moved()["resent"], 2);
  EXPECT_EQ(moved()["in_flight"], -static_cast<int64_t>(6 * kSize));
}

TEST_P(Loss, AnswersAndWindowUpdatesAreNoDuplicates) {
  send_and_lose(3);
  for (int i = 0; i < 5; i++) {
    for (const View &v : consumed(target_.response("VALUE")))
      EXPECT_TRUE(v.payload.empty());
    target_.window++;
    consumed(target_.ack()).none();
  }
  EXPECT_EQ(moved()["resent"], 0);
}

TEST_P(Loss, DuplicatesWithNothingOutstandingAreNoLoss) {
  for (int i = 0; i < 5; i++)
    consumed(target_.ack()).none();
  EXPECT_EQ(moved()["resent"], 0);
  EXPECT_EQ(moved()["event.fast_retransmit"], 0);
}

TEST_P(Loss, ForgedSackBlocksAreIgnored) {
  send_and_lose(3);
  const Packet base = target_.ack();
  for (auto [from, to] : {std::pair{at(90), at(95)},
                          {at(0) - 5000, at(0) - 4000},
                          {at(2), at(1)},
                          {0u, 0u},
                          {at(0) + 1, at(0) + 0x7fffffff}})
    consumed(Packet(base).options({opt::nop(), opt::nop(), opt::sack({{from, to}})}));
  EXPECT_EQ(moved()["delivered"], 0);
  target_.received_next = at(3);
  consumed(target_.ack()).none();
  EXPECT_EQ(moved()["delivered"], static_cast<int64_t>(3 * kSize));
}

TEST_P(Loss, NewDataGoesOnDuringARecovery) {
  send_and_lose(4);
  consumed(sack(1, 4)).are({resent(0)}, kPush);
  const Frames sent = capture(client_.data(segment_text(4)));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].seq, at(4));
  EXPECT_EQ(sent[0].text(), segment_text(4));
}

TEST_P(Loss, ResendsAreBounded) {
  // However often the target repeats itself, a loss is repaired once before a timeout.
  send_and_lose(8);
  size_t frames = 0;
  for (int i = 0; i < 100; i++)
    frames += consumed(target_.ack()).size();
  EXPECT_LE(frames, 8u);
}

// Timeouts within a test's patience. The keeper's part is played by the test.
class Timeout : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.limits.rto_min_ms = 50;
    c.limits.rto_max_ms = 100;
    c.limits.tries = 3;
    c.limits.syn_tries = 2;
    return c;
  }
  // What the shadow sends when its timer has expired.
  Frames wake() {
    EXPECT_TRUE(plane().wait_for_wake(slot(), 5000)) << "the timer did not ask for a resend";
    plane().command(slot(), DP_CMD_RESEND);
    return collect().sent;
  }
  // Waits until the shadow is given up.
  void wait_for_the_end() {
    for (int i = 0; i < 100 && !plane().open_slots().empty(); i++)
      if (plane().wait_for_wake(slot(), 50))
        plane().command(slot(), DP_CMD_RESEND);
    collect();
    EXPECT_TRUE(plane().open_slots().empty());
  }
};
DOPPEL_ALL_MODES(Timeout);

TEST_P(Timeout, SynIsSentAgain) {
  knock();
  const Frames sent = wake();
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_EQ(sent[0].flags, SYN);
  EXPECT_EQ(sent[0].seq, client_.isn);
  EXPECT_EQ(sent[0].sport, target_.shadow_port);
  EXPECT_EQ(moved()["event.syn_retransmit"], 1);
  // The echo tells which SYN is answered: that round trip is known (RFC 7323, 4).
  target_.meets(sent[0]);
  client_.tsval++;
  consumed(target_.syn_ack()).are({expected().made(client_.isn + 1, 0)});
  EXPECT_GT(shadow().tcp.srtt_us, 0u);
  EXPECT_LE(shadow().tcp.rto_ms, 100u);
}

TEST_P(Timeout, AnsweredSynOfBeforeTellsNoTime) {
  knock();
  wake();
  consumed(target_.syn_ack());
  EXPECT_EQ(shadow().tcp.srtt_us, 0u);
}

TEST_P(Timeout, SynIsRepeatedAtOneRateAtFirst) {
  knock();
  for (int i = 0; i < 4; i++) {
    const uint32_t before = shadow().tcp.rto_ms;
    wake();
    EXPECT_EQ(shadow().tcp.rto_ms, before);
  }
}

TEST_P(Timeout, SilentTargetIsGivenUp) {
  knock();
  capture(client_.data("get k\r\n")).none();
  mark();
  const uint64_t begin = monotonic_ns();
  wait_for_the_end();
  EXPECT_EQ(moved()["lost.target_timeout"], 7);
  EXPECT_GT(plane().cell().last.gave_up, begin);
  EXPECT_EQ(moved()["broken"], 1);
}

TEST_P(Timeout, LastSegmentIsSentAgain) {
  open();
  capture(client_.data("get k\r\n"));
  mark();
  client_.tsval++;
  wake().are({expected().made(client_.isn + 1, PSH, "get k\r\n")}, kPush);
  EXPECT_EQ(moved()["resent"], 1);
  EXPECT_EQ(moved()["event.tail_loss_probe"], 1);
  EXPECT_EQ(moved()["event.timeout_retransmit"], 0);
  wake().are({expected().made(client_.isn + 1, PSH, "get k\r\n")}, {"tcp.flags", "opt.tsval"});
  EXPECT_EQ(moved()["event.timeout_retransmit"], 1);
  target_.received_next = client_.next;
  consumed(target_.ack()).none();
  EXPECT_EQ(moved()["delivered"], 7);
}

TEST_P(Timeout, FinIsSentAgain) {
  open();
  capture(client_.fin());
  client_.tsval++;
  wake().are({expected().made(client_.next - 1, FIN)});
}

TEST_P(Timeout, TargetThatStopsAnsweringIsGivenUp) {
  open();
  capture(client_.data("get k\r\n"));
  mark();
  const uint64_t begin = monotonic_ns();
  wait_for_the_end();
  EXPECT_EQ(moved()["lost.target_timeout"], 7);
  EXPECT_GT(plane().cell().last.gave_up, begin);
  EXPECT_EQ(moved()["in_flight"], -7);
}

// Timeouts that back off for longer than a test waits.
class Back : public Timeout {
protected:
  Config config() const override {
    Config c = Timeout::config();
    c.limits.rto_min_ms = 20;
    c.limits.rto_max_ms = 60000;
    c.limits.tries = 15;
    return c;
  }
  // A flight of four segments is lost, again and again. Returns the shadow's slot.
  unsigned back_off() {
    open();
    for (int i = 0; i < 4; i++)
      capture(client_.data(filler(kSize, i)));
    while (shadow().tcp.rto_ms < 640)
      wake();
    mark();
    return slot();
  }
  // Whether the shadow's timer asks for a resend before the timeout; it waits for that in vain for
  // so long.
  bool wakes(unsigned slot, int ms) { return plane().wait_for_wake(slot, ms); }
};
INSTANTIATE_TEST_SUITE_P(Modes, Back, testing::Values(kModes[0], kModes[3]), name_of);

TEST_P(Back, TargetThatAnswersAnotherIsTriedBeforeTheTimeout) {
  const unsigned stopped = back_off();
  const uint8_t tries = plane().shadow(stopped).tcp.tries;
  const uint32_t rto_ms = plane().shadow(stopped).tcp.rto_ms;
  EXPECT_FALSE(wakes(stopped, 50)); // more than a tick of the coarse clock
  next_client();
  open();
  ASSERT_TRUE(wakes(stopped, 1000));
  plane().command(stopped, DP_CMD_RESEND);
  // A segment's worth: in pieces, since it may have been the size that was lost.
  std::string sent;
  for (const View &v : collect().sent) {
    EXPECT_EQ(v.sport, kShadowPort + stopped);
    sent += v.text();
  }
  EXPECT_EQ(sent.substr(0, kSize), filler(kSize, 0));
  EXPECT_LE(sent.size(), kSize + 500);
  EXPECT_EQ(moved()["event.early_retransmit"], 1);
  EXPECT_EQ(moved()["event.timeout_retransmit"], 0);
  EXPECT_EQ(plane().shadow(stopped).tcp.rto_ms, rto_ms) << "it is no timeout";
  EXPECT_EQ(plane().shadow(stopped).tcp.tries, tries);
  // Once for one answer.
  EXPECT_FALSE(wakes(stopped, 300));
}

TEST_P(Back, AnswerToAResendTellsTheOthers) {
  const unsigned stopped = back_off();
  next_client();
  const unsigned other = back_off();
  ASSERT_TRUE(wakes(stopped, 1000)); // since the other one's SYN was answered
  plane().command(stopped, DP_CMD_RESEND);
  collect();
  EXPECT_FALSE(wakes(stopped, 300));
  ASSERT_NE(stopped, other);
  mark();
  target_.received_next = client_.isn + 1 + kSize;
  target_.tsecr = client_.tsval + 1;
  consumed(target_.ack());
  EXPECT_TRUE(wakes(stopped, 1000));
  EXPECT_EQ(moved()["event.early_retransmit"], 1);
}

TEST_P(Back, SilentTargetIsNotTriedEarly) {
  const unsigned stopped = back_off();
  next_client();
  knock();
  EXPECT_FALSE(wakes(stopped, 500));
  EXPECT_EQ(moved()["event.early_retransmit"], 0);
}

// The one port that there is belongs to the shadow itself: nothing can take its bytes over.
class LastPort : public Timeout {
protected:
  Config config() const override {
    Config c = Timeout::config();
    c.limits.port_last = c.limits.port_first;
    return c;
  }
};
DOPPEL_ALL_MODES(LastPort);

TEST_P(LastPort, WhatTimesOutAfterQuietIsNotClosed) {
  open();
  deliver(capture(client_.data("get k\r\n")));
  consumed(target_.ack()).none();
  capture(client_.data("get k\r\n"));
  mark();
  wait_for_the_end();
  EXPECT_EQ(moved()["lost.target_timeout"], 7);
}

TEST_P(LastPort, WhatCrossesAResetIsNotClosed) {
  open();
  deliver(capture(client_.data("get k\r\n")));
  consumed(target_.ack()).none();
  capture(client_.data("get k\r\n"));
  mark();
  consumed(target_.rst());
  EXPECT_EQ(moved()["lost.target_reset"], 7);
}

// The test's own answers may be late by less than these timeouts on a busy machine.
class Shut : public Timeout {
protected:
  Config config() const override {
    Config c = Timeout::config();
    c.limits.rto_min_ms = 200;
    c.limits.rto_max_ms = 300;
    return c;
  }
  // What it sends at the next expiry. Where the test was slower than a timeout, the wake of one
  // that the test has answered meanwhile is still there, or was taken for an earlier one: nothing
  // is due then, or something is without a wake.
  Frames probe() {
    Frames sent;
    for (int i = 0; i < 10 && sent.size() == 0; i++) {
      plane().wait_for_wake(slot(), 1000);
      plane().command(slot(), DP_CMD_RESEND);
      sent = collect().sent;
    }
    return sent;
  }
};
DOPPEL_ALL_MODES(Shut);

TEST_P(Shut, ClosedWindowIsProbed) {
  // RFC 9293, 3.8.6.1: the window update may have been lost.
  open();
  target_.window = 0;
  consumed(target_.ack()).none();
  capture(client_.data("get k\r\n")).none();
  for (int i = 0; i < 5; i++) { // answered, so it is never a reason to give up
    const Frames sent = probe();
    ASSERT_EQ(sent.size(), 1u) << sent.text();
    EXPECT_TRUE(sent[0].faults.empty());
    EXPECT_LE(sent[0].payload.size(), 1u);
    consumed(target_.ack());
  }
  target_.window = 502;
  Frames sent = consumed(target_.ack());
  std::string text;
  for (const View &v : sent)
    text += v.text();
  EXPECT_NE(std::string("get k\r\n").find(text), std::string::npos);
  EXPECT_EQ(plane().open_slots().size(), 1u);
}

TEST_P(Timeout, AcknowledgedShadowIsLeftAlone) {
  open();
  capture(client_.data("get k\r\n"));
  target_.received_next = client_.next;
  consumed(target_.ack()).none();
  EXPECT_FALSE(plane().wait_for_wake(slot(), 400)) << "nothing is outstanding";
  EXPECT_EQ(plane().open_slots().size(), 1u);
}

} // namespace
} // namespace doppel::bpftest
