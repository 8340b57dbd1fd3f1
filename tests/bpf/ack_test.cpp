// SPDX-License-Identifier: Apache-2.0
// When the target's answers are acknowledged (RFC 9293, 3.8.6.3): at once, unless the target has
// one more thing to say for certain, or the client is likely to say the next soon.
#include <chrono>
#include <functional>

#include "tests/bpf/session.h"
#include "tests/soon.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr size_t kFull = 1448; // the payload of a full segment
constexpr int kEvery = 8;      // DP_ACK_EVERY

// Without a clock, so that none is kept back for the client's sake.
class Ack : public Session {
protected:
  void begin() override {
    open();
    consumed(target_.ack()).none();
  }
  // A request leaves and does not arrive yet.
  void request_on_its_way() { ASSERT_EQ(capture(client_.data("get key\r\n")).size(), 1u); }
  // A request is on its way, and an answer waits for its ACK.
  void answer_waits() {
    request_on_its_way();
    consumed(target_.response("VALUE")).none();
  }
  View ack() { return expected().made(client_.next, 0); }
};
DOPPEL_ALL_MODES(Ack);

TEST_P(Ack, OfTheLastAnswerLeavesAtOnce) {
  deliver(capture(client_.data("get key\r\n")));
  for (int i = 0; i < 20; i++)
    consumed(target_.response("VALUE")).are({ack()});
}

TEST_P(Ack, WaitsWhileARequestIsOnItsWay) {
  answer_waits();
  target_.received_next = client_.next;
  consumed(target_.ack()).are({ack()});
  consumed(target_.ack()).none();
}

TEST_P(Ack, WaitsWhileBytesWaitForTheWindow) {
  target_.window = 0;
  consumed(target_.ack()).none();
  capture(client_.data("get key\r\n")).none();
  consumed(target_.response("VALUE")).none();
  target_.window = 502;
  // The bytes carry it.
  consumed(target_.ack()).are({expected().made(client_.isn + 1, PSH, "get key\r\n")});
}

TEST_P(Ack, GoesWithTheNextRequest) {
  answer_waits();
  const Packet next = client_.data("get other\r\n");
  capture(next).are({expected().copy_of(next, "get other\r\n")});
  target_.received_next = client_.next;
  consumed(target_.ack()).none();
}

TEST_P(Ack, EveryEighthAnswerIsAcknowledged) {
  request_on_its_way();
  for (int round = 0; round < 3; round++) {
    for (int i = 1; i < kEvery; i++)
      consumed(target_.response("VALUE")).none();
    consumed(target_.response("VALUE")).are({ack()});
  }
}

TEST_P(Ack, PureAcknowledgementsDoNotCount) {
  answer_waits();
  for (int i = 0; i < 3 * kEvery; i++) {
    target_.window++; // else they were duplicates
    consumed(target_.ack()).none();
  }
}

TEST_P(Ack, OfAFullSegmentLeavesAtOnce) {
  request_on_its_way();
  consumed(target_.response(filler(kFull))).are({ack()});
  consumed(target_.response(filler(kFull - 1))).none();
}

// The target's own timer told it that the ACK is missing.
TEST_P(Ack, OfAnAnswerThatCameTwiceLeavesAtOnce) {
  answer_waits();
  consumed(target_.segment(target_.next - 5, PSH, "VALUE")).are({ack()});
  consumed(target_.response("VALUE")).none();
}

// Its congestion window may be a single segment: it waits for every ACK.
TEST_P(Ack, FollowsEveryAnswerForAWhileAfterOneOutOfOrder) {
  request_on_its_way();
  target_.next += 1000;
  for (int i = 0; i < 32; i++)
    consumed(target_.response("VALUE")).are({ack()});
  consumed(target_.response("VALUE")).none();
}

TEST_P(Ack, OfAFinLeavesAtOnce) {
  answer_waits();
  consumed(target_.fin()).are({ack()});
}

constexpr auto kWait = std::chrono::milliseconds(40); // ACK_WAIT_NS

// With a clock.
class KeptAck : public Ack {
protected:
  Config config() const override { return clock_config(); }
  // A request, and what the answer that comes with its acknowledgement leads to.
  Frames answered(const std::string &answer = "VALUE") {
    deliver(capture(client_.data("get key\r\n")));
    return consumed(target_.response(answer));
  }
  // An answer that is kept, and what `step` leads to before its time. A machine that is late has
  // another try, with another client.
  Frames kept(const std::function<Frames()> &step) {
    for (int tries = 0; tries < 100; tries++) {
      if (tries > 0) {
        plane().command(slot(), DP_CMD_RESET); // nothing of it comes later
        collect();
        next_client();
        begin();
      }
      const auto from = std::chrono::steady_clock::now();
      const Frames none = answered();
      Frames got = step();
      if (std::chrono::steady_clock::now() - from < kWait / 2) {
        none.none();
        return got;
      }
    }
    ADD_FAILURE() << "this machine was never in time";
    return {};
  }
  // What the clock sends; its own frames do not leave the host.
  Frames sent_alone() {
    Frames sent;
    soon([&] { return !(sent = collect().sent).empty(); });
    return sent;
  }
  void passes(std::chrono::milliseconds time) {
    const auto from = std::chrono::steady_clock::now();
    EXPECT_TRUE(soon([&] { return std::chrono::steady_clock::now() - from > time; }));
  }
};
INSTANTIATE_TEST_SUITE_P(Modes, KeptAck, testing::Values(kModes[0], kModes[3]), name_of);

TEST_P(KeptAck, RidesOnTheNextRequest) {
  for (int i = 0; i < 3; i++) {
    Packet next;
    const Frames sent = kept([&] { return capture(next = client_.data("get other\r\n")); });
    sent.are({expected().copy_of(next, "get other\r\n")});
    deliver(sent);
    consumed(target_.ack()).none();
  }
}

TEST_P(KeptAck, GoesAloneWhenNothingFollows) {
  std::chrono::steady_clock::time_point from;
  kept([&] {
    from = std::chrono::steady_clock::now();
    return Frames{};
  });
  sent_alone().are({ack()});
  EXPECT_GE(std::chrono::steady_clock::now() - from, kWait / 2);
  // It was the last thing to wait for.
  EXPECT_EQ(shadow().tcp.due_ns, 0u);
  EXPECT_FALSE(shadow().tcp.flags & DP_SH_ACK_DUE);
  EXPECT_TRUE(soon([&] { return !(shadow().tcp.flags & DP_SH_TIMER); }));
  consumed(target_.ack()).none();
  EXPECT_EQ(moved()["event.timeout_retransmit"], 0);
}

// A process, or an order of before, has the shadow looked at.
TEST_P(KeptAck, IsNoTimeoutWhenItLeftEarly) {
  kept([&] {
    plane().command(slot(), DP_CMD_RESEND);
    return collect().sent;
  }).are({ack()});
  EXPECT_EQ(shadow().tcp.due_ns, 0u);
  EXPECT_TRUE(soon([&] { return !(shadow().tcp.flags & DP_SH_TIMER); }));
  EXPECT_EQ(moved()["event.timeout_retransmit"], 0);
  EXPECT_EQ(shadow().tcp.tries, 0);
}

TEST_P(KeptAck, IsOfOneAnswer) {
  kept([&] { return consumed(target_.response("VALUE")); }).are({ack()});
}

TEST_P(KeptAck, OfAFullSegmentIsNone) { answered(filler(kFull)).are({ack()}); }

TEST_P(KeptAck, IsNoneOfASlowClient) {
  kept([] { return Frames{}; });
  sent_alone().are({ack()});
  passes(2 * kWait);
  answered().are({ack()});
  consumed(target_.response("MORE")).are({ack()});
  kept([] { return Frames{}; });
}

// Nagle's algorithm, or what nobody asked for.
TEST_P(KeptAck, IsNoneWhereTheTargetWaitsForIt) {
  kept([] { return Frames{}; });
  sent_alone().are({ack()});
  consumed(target_.response("REST")).are({ack()});
  for (int i = 0; i < 40; i++)
    answered().are({ack()});
}

TEST_P(KeptAck, IsNoneWhereTheTargetSaysItAgain) {
  kept([&] { return consumed(target_.segment(target_.next - 5, PSH, "VALUE")); }).are({ack()});
  for (int i = 0; i < 40; i++)
    answered().are({ack()});
}

TEST_P(KeptAck, GoesWithTheClientsFin) {
  kept([&] { return capture(client_.fin()); }).are({expected().made(client_.next - 1, FIN, "")});
}

TEST_P(KeptAck, GoesWithTheAnswerToTheTargetsFin) {
  kept([&] { return consumed(target_.fin()); }).are({expected().made(client_.next, FIN)});
}

} // namespace
} // namespace doppel::bpftest
