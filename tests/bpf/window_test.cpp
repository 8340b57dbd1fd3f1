// SPDX-License-Identifier: Apache-2.0
// The target's window decides when a byte leaves (docs/design.md, The shadow; RFC 9293,
// 3.8.6).
#include "tests/bpf/session.h"

#include <ctime>

namespace doppel::bpftest {
namespace {

using namespace packet;

class Window : public Session {
protected:
  // Established, with a target that takes `window` bytes (scaled by 2^7).
  void open_with_window(uint16_t window) {
    target_.window = window;
    open();
    consumed(target_.ack());
    mark();
  }
};
DOPPEL_ALL_MODES(Window);

TEST_P(Window, ClosedThenOpened) {
  open_with_window(0);
  capture(client_.data("get a\r\n")).none();
  capture(client_.data("get b\r\n")).none();
  EXPECT_EQ(moved()["event.window_full"], 2);
  EXPECT_EQ(moved()["in_flight"], 14);
  target_.window = 502;
  consumed(target_.ack()).are({expected().made(client_.isn + 1, PSH, "get a\r\nget b\r\n")});
}

TEST_P(Window, OrderIsKeptBehindWaitingBytes) {
  open_with_window(0);
  capture(client_.data("first ")).none();
  target_.window = 502;
  deliver(consumed(target_.ack()));
  deliver(capture(client_.data("second ")));
  deliver(capture(client_.data("third")));
  EXPECT_EQ(target_.received, "first second third");
}

TEST_P(Window, IsScaledAfterTheHandshakeOnly) {
  // 8 << 7 = 1024 bytes: one segment of 1000, then 24 more would fit, but not 1000.
  open_with_window(8);
  const std::string text = filler(1000);
  const Packet original = client_.data(text);
  capture(original).are({expected().copy_of(original, text)});
  capture(client_.data(text)).none();
  EXPECT_EQ(moved()["event.window_full"], 1);
}

TEST_P(Window, OfTheSynAckIsNotScaled) {
  knock();
  ASSERT_FALSE(HasFatalFailure());
  // 1000 bytes, were it scaled it would be 128000.
  consumed(target_.syn_ack().window(1000)).are({expected().made(client_.isn + 1, 0)});
  const std::string text = filler(1000);
  deliver(capture(client_.data(text)));
  EXPECT_EQ(target_.received.size(), 1000u);
  capture(client_.data(text)).none();
}

TEST_P(Window, SegmentsAreAsLargeAsTheMssAndTheWindowAllow) {
  open_with_window(0);
  std::string all;
  for (int i = 0; i < 5; i++) {
    all += filler(1000, static_cast<unsigned>(i));
    capture(client_.data(filler(1000, static_cast<unsigned>(i)))).none();
  }
  target_.window = 24; // 3072 bytes
  Frames sent = consumed(target_.ack());
  size_t bytes = 0;
  for (const View &v : sent) {
    EXPECT_LE(v.payload.size(), 1448u);
    bytes += v.payload.size();
  }
  EXPECT_LE(bytes, 3072u);
  EXPECT_GE(bytes, 2896u) << "two full segments fit";
  deliver(sent);
  for (int round = 0; round < 10 && target_.received.size() < all.size(); round++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, all);
}

TEST_P(Window, TinyOpeningsAreNotFilledWithTinySegments) {
  // RFC 9293, 3.8.6.2.1: something is in flight, much is waiting, and a few bytes of room appear.
  open_with_window(12); // 1536 bytes
  deliver(capture(client_.data(filler(1448))));
  capture(client_.data(filler(1448))).none();
  target_.received_next -= 1348; // the target took 100 bytes only
  consumed(target_.ack()).none();
  target_.received_next += 1348;
  const Frames sent = consumed(target_.ack());
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].payload.size(), 1448u);
}

TEST_P(Window, OldSegmentsDoNotChangeIt) {
  // RFC 9293, 3.10.7.4: SND.WL1 and SND.WL2 keep a delayed segment from it.
  open_with_window(502);
  consumed(target_.response(filler(100)));
  consumed(target_.response(filler(100)));
  const Packet delayed = target_.segment(target_.next - 200, 0).window(0);
  consumed(delayed);
  const Packet original = client_.data("get a\r\n");
  capture(original).are({expected().copy_of(original, "get a\r\n")});
}

TEST_P(Window, ShrunkBelowWhatIsInFlight) {
  open_with_window(502);
  deliver(capture(client_.data(filler(1400))));
  target_.received_next -= 1400;
  target_.received.clear();
  target_.window = 1;
  consumed(target_.ack()); // 128 bytes from una, 1400 are out
  capture(client_.data("get a\r\n")).none();
  target_.window = 502;
  target_.received_next += 1400;
  consumed(target_.ack()).are({expected().made(client_.next - 7, PSH, "get a\r\n")});
}

TEST_P(Window, PartialAckKeepsTheRest) {
  open_with_window(502);
  deliver(capture(client_.data(filler(1000))));
  deliver(capture(client_.data(filler(1000, 3))));
  target_.received_next -= 1500;
  consumed(target_.ack()).none();
  expect_account({{"observed", 2000}, {"delivered", 500}, {"in_flight", 1500}});
  target_.received_next += 1500;
  consumed(target_.ack()).none();
  expect_account({{"observed", 2000}, {"delivered", 2000}});
}

// RFC 9293, 3.8.6.1: a window that stays shut is probed, ever more seldom.
class Persist : public Window {
protected:
  static constexpr unsigned kLeast = 40, kMost = 400; // ms
  Config config() const override {
    Config c = default_config();
    c.limits.rto_min_ms = kLeast;
    c.limits.rto_max_ms = kMost;
    return c;
  }
  // The next probe, which the target answers; returns how long after that the one after it is due.
  unsigned probe() {
    EXPECT_TRUE(plane().wait_for_wake(slot(), 5000)) << "no probe is due";
    plane().command(slot(), DP_CMD_RESEND);
    const Frames sent = collect().sent;
    EXPECT_EQ(sent.size(), 1u) << sent.text();
    for (const View &v : sent) {
      EXPECT_EQ(v.seq, client_.isn) << "what the target has already draws an answer";
      EXPECT_EQ(v.payload.size(), 0u);
    }
    return shadow().tcp.rto_ms;
  }
  void shut() {
    open_with_window(0);
    capture(client_.data("get a\r\n")).none();
    EXPECT_EQ(shadow().tcp.rto_ms, kLeast);
  }
  void assert_waits(unsigned ms) {
    const dp_shadow sh = shadow();
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    const auto left =
        static_cast<int64_t>(sh.tcp.due_ns) - now.tv_sec * 1'000'000'000 - now.tv_nsec;
    EXPECT_LE(left, ms * 1'000'000ll);
    EXPECT_EQ(sh.tcp.rto_ms, ms);
  }
};
DOPPEL_ALL_MODES(Persist);

TEST_P(Persist, ProbesBackOffThoughTheyAreAnswered) {
  shut();
  for (unsigned wanted : {80u, 160u, 320u, kMost, kMost}) {
    EXPECT_EQ(probe(), wanted);
    consumed(target_.ack()).none();
    assert_waits(wanted);
  }
  EXPECT_EQ(shadow().tcp.tries, 0u) << "a target that answers is never given up";
}

TEST_P(Persist, AnOpenedWindowEndsIt) {
  shut();
  probe();
  probe();
  consumed(target_.ack()).none();
  target_.window = 502; // not in answer to a probe
  deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, "get a\r\n");
  EXPECT_EQ(shadow().tcp.rto_ms, kLeast) << "what is lost now waits no longer than else";
  consumed(target_.ack()).none();
  target_.window = 0;
  consumed(target_.ack()).none();
  capture(client_.data("get b\r\n")).none();
  assert_waits(kLeast);
}

} // namespace
} // namespace doppel::bpftest
