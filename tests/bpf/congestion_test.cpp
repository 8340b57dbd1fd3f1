// SPDX-License-Identifier: Apache-2.0
// How much is on its way to the target at a time (docs/design.md, Congestion; RFC 5681, 6675, 6928,
// 6937, 8985).
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr size_t kSize = 1448; // of each segment of these tests: what one can carry at most

class Congestion : public Session {
protected:
  void begin() override {
    open();
    consumed(target_.ack()).none();
  }
  // The client says `n` segments; returns how many leave.
  size_t say(unsigned n) {
    size_t left = 0;
    for (unsigned i = 0; i < n; i++)
      left += capture(client_.data(filler(kSize, said_++))).size();
    return left;
  }
  uint32_t at(unsigned i) const { return client_.isn + 1 + static_cast<uint32_t>(i * kSize); }
  // The target has the first `n` segments; returns what leaves.
  Frames ack(unsigned n) {
    target_.received_next = at(n);
    return consumed(target_.ack());
  }
  // It has the first as before, and [from, to).
  Frames sack(unsigned from, unsigned to) {
    return consumed(target_.ack().options(
        {opt::nop(), opt::nop(), opt::timestamps(target_.tsval, target_.tsecr), opt::nop(),
         opt::nop(), opt::sack({{at(from), at(to)}})}));
  }
  std::vector<uint32_t> numbers(const Frames &frames) const {
    std::vector<uint32_t> out;
    for (const View &v : frames)
      out.push_back(static_cast<uint32_t>((v.seq - at(0)) / kSize));
    return out;
  }
  uint32_t cwnd() { return shadow().tcp.cwnd; }
  using Numbers = std::vector<uint32_t>;

private:
  unsigned said_ = 0;
};
DOPPEL_ALL_MODES(Congestion);

TEST_P(Congestion, InitialWindow) {
  EXPECT_EQ(say(14), 10u) << "RFC 6928";
  EXPECT_EQ(moved()["event.window_full"], 4);
}

TEST_P(Congestion, SlowStartDoubles) {
  say(40);
  EXPECT_EQ(ack(10).size(), 16u) << "what one event sends at most";
  EXPECT_EQ(ack(11).size(), 6u) << "20 + 2 are on their way then";
  EXPECT_EQ(cwnd(), 21 * kSize);
}

TEST_P(Congestion, WhatIsNotUsedDoesNotGrow) {
  for (unsigned i = 1; i <= 20; i++) {
    say(1);
    ack(i);
  }
  EXPECT_EQ(cwnd(), 10 * kSize);
}

TEST_P(Congestion, ALossHalvesIt) {
  say(10);
  EXPECT_EQ(numbers(sack(4, 7)), (Numbers{0, 1})) << "three are on their way, and five may be";
  EXPECT_EQ(shadow().tcp.ssthresh, 5 * kSize);
  target_.tsecr = client_.tsval + 1; // the answer to the resend
  ack(10);
  EXPECT_EQ(cwnd(), 5 * kSize);
}

TEST_P(Congestion, OnlyWhatIsLostIsSentAgain) {
  // IsLost(): above segments 4 and 5 there is one, not three; and there is something new to send.
  say(12);
  EXPECT_EQ(numbers(sack(1, 4)), (Numbers{0}));
  sack(6, 7);
  EXPECT_EQ(moved()["resent"], 1);
  ack(4);
  EXPECT_EQ(moved()["resent"], 1) << "a partial ACK is no sign of a loss";
}

TEST_P(Congestion, AReorderedSegmentCostsNothing) {
  say(10);
  const uint32_t before = cwnd();
  EXPECT_EQ(numbers(sack(1, 5)), (Numbers{0}));
  EXPECT_LT(cwnd(), before);
  ack(10); // its echo is that of the original: RFC 3522
  EXPECT_EQ(cwnd(), before);
  EXPECT_EQ(moved()["resent"], 1);
  EXPECT_EQ(shadow().tcp.dup_thresh, 6u) << "it came behind four";
}

TEST_P(Congestion, SegmentsOfTwoCpusComeInAnyOrder) {
  say(6);
  plane().sent_by_another(slot());
  say(4);
  EXPECT_TRUE(sack(1, 5).empty());
  plane().age(slot(), 1);
  EXPECT_EQ(numbers(sack(1, 6)), (Numbers{0})) << "it has had a second";
  target_.tsecr = client_.tsval + 1; // the resend's own
  ack(10);
  say(5); // nothing of the other CPU's is on its way any more
  EXPECT_EQ(numbers(sack(11, 14)), (Numbers{10}));
}

TEST_P(Congestion, OfTwoCpusSegmentsAHoleIsLostThatWasOneForLong) {
  say(6);
  plane().sent_by_another(slot());
  say(4);
  EXPECT_TRUE(sack(2, 7).empty());
  plane().age(slot(), 1);
  EXPECT_EQ(numbers(sack(8, 9)), (Numbers{0, 1})) << "7 is none for long";
}

TEST_P(Congestion, AnAnsweredResendIsALoss) {
  say(10);
  const Frames again = sack(1, 5);
  ASSERT_EQ(again.size(), 1u);
  target_.tsecr = client_.tsval + 1; // the resend's own
  ack(10);
  EXPECT_EQ(cwnd(), 5 * kSize);
  EXPECT_EQ(shadow().tcp.dup_thresh, 3u);
}

TEST_P(Congestion, ALostResendIsSentAgain) {
  say(10);
  EXPECT_EQ(numbers(sack(1, 5)), (Numbers{0}));
  for (unsigned i = 6; i <= 10; i++)
    sack(1, i);
  say(6); // later than the resend
  EXPECT_EQ(moved()["resent"], 1);
  const Frames again = sack(1, 14);
  ASSERT_FALSE(again.empty());
  EXPECT_EQ(numbers(again)[0], 0u);
  EXPECT_EQ(moved()["resent"], 2);
}

TEST_P(Congestion, RenegedSackIsForgotten) {
  // RFC 2018, 8: the target has dropped what it reported.
  say(10);
  EXPECT_EQ(numbers(sack(1, 5)), (Numbers{0}));
  target_.tsecr = client_.tsval + 1;
  ack(1);
  EXPECT_EQ(shadow().tcp.n_sacked, 0u);
}

TEST_P(Congestion, RestIsForgotten) {
  plane().widen(slot(), 100 * kSize);
  plane().age(slot(), 3600);
  EXPECT_EQ(say(14), 10u) << "RFC 5681, 4.1";
}

// Timeouts within a test's patience.
class Clock : public Congestion {
protected:
  Config config() const override {
    Config c = default_config();
    c.limits.rto_min_ms = 500;
    c.limits.rto_max_ms = 4000;
    return c;
  }
  Frames wake() {
    EXPECT_TRUE(plane().wait_for_wake(slot(), 5000)) << "nothing is due";
    plane().command(slot(), DP_CMD_RESEND);
    return collect().sent;
  }
};
DOPPEL_ALL_MODES(Clock);

TEST_P(Clock, AProbeForTheEndOfAFlight) {
  say(3);
  EXPECT_EQ(numbers(wake()), (Numbers{2})) << "RFC 8985, 7.3";
  EXPECT_EQ(moved()["event.tail_loss_probe"], 1);
  EXPECT_EQ(moved()["event.timeout_retransmit"], 0);
  target_.tsecr = client_.tsval + 1;
  EXPECT_EQ(numbers(sack(2, 3)), (Numbers{0, 1})) << "older than the probe, and not there";
  ack(3);
  EXPECT_EQ(moved()["resent"], 3);
}

TEST_P(Clock, AProbeSaysSomethingNewIfThereIs) {
  EXPECT_EQ(say(12), 10u);
  EXPECT_EQ(numbers(wake()), (Numbers{10}));
  EXPECT_EQ(moved()["resent"], 0);
}

TEST_P(Clock, ATimeoutLeavesOneSegment) {
  say(10);
  wake(); // the probe
  EXPECT_EQ(numbers(wake()), (Numbers{0}));
  EXPECT_EQ(cwnd(), kSize);
  target_.tsecr = client_.tsval + 2;
  EXPECT_EQ(numbers(ack(1)), (Numbers{1, 2})) << "slow start";
  EXPECT_EQ(shadow().tcp.ssthresh, 5 * kSize);
}

TEST_P(Clock, ATimeoutKeepsWhatWasReported) {
  say(10);
  EXPECT_EQ(numbers(sack(7, 9)), (Numbers{}));
  EXPECT_EQ(numbers(wake()), (Numbers{9})) << "the probe";
  EXPECT_EQ(numbers(wake()), (Numbers{0}));
  target_.tsecr = client_.tsval + 2;
  Numbers again;
  for (unsigned i : {1, 2, 3, 4, 5, 6, 9, 10})
    for (uint32_t number : numbers(ack(i)))
      again.push_back(number);
  EXPECT_EQ(again, (Numbers{1, 2, 3, 4, 5, 6, 9}));
}

TEST_P(Clock, ASmallFlightDoesNotBackOffAtFirst) {
  say(1);
  wake(); // the probe
  for (int i = 0; i < 2; i++) {
    EXPECT_EQ(numbers(wake()), (Numbers{0}));
    EXPECT_EQ(shadow().tcp.rto_ms, 500u);
  }
}

// It is given up after its first timeout, but for those that do not count.
class LastTry : public Clock {
protected:
  Config config() const override {
    Config c = Clock::config();
    c.limits.tries = 1;
    return c;
  }
  void TearDown() override {
    if (!IsSkipped())
      plane().route_mtu(1500);
    Clock::TearDown();
  }
};
DOPPEL_ALL_MODES(LastTry);

TEST_P(LastTry, WhatDidNotCountDoesNotCountInALargerFlightEither) {
  say(3);
  wake(); // the probe
  wake();
  wake();
  plane().route_mtu(600); // the same bytes are more segments
  plane().command(slot(), DP_CMD_MTU);
  collect();
  wake();
  EXPECT_EQ(shadow().tcp.tries, 3u);
  EXPECT_EQ(moved()["lost.target_timeout"], 0);
}

TEST_P(Clock, ASynWaitsAsLongAsOthersMeasured) {
  next_client();
  knock();
  EXPECT_EQ(shadow().tcp.rto_ms, 500u);
}

TEST_P(Clock, ARepeatedSynThatTellsNoTimeTakesWhatOthersMeasured) {
  next_client();
  knock();
  wake();
  consumed(target_.syn_ack()); // the echo of the first
  EXPECT_EQ(shadow().tcp.srtt_us, 0u);
  EXPECT_EQ(shadow().tcp.rto_ms, 500u);
}

TEST_P(Clock, ATimeoutForNothingIsUndone) {
  say(10);
  const uint32_t before = cwnd();
  wake();
  wake();
  EXPECT_EQ(cwnd(), kSize);
  ack(10); // the echo of the first: RFC 4015
  EXPECT_EQ(cwnd(), before);
}

} // namespace
} // namespace doppel::bpftest
