// SPDX-License-Identifier: Apache-2.0
// When the target's answers are acknowledged (RFC 9293, 3.8.6.3): at once, unless the target has
// one more thing to say for certain.
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr size_t kFull = 1448; // the payload of a full segment
constexpr int kEvery = 8;      // DP_ACK_EVERY

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

} // namespace
} // namespace doppel::bpftest
