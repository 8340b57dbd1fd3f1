// SPDX-License-Identifier: Apache-2.0
// How a shadow opens (design, 4.1 to 4.3).
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

class Handshake : public Session {};
DOPPEL_ALL_MODES(Handshake);

TEST_P(Handshake, SynIsOnlyRemembered) {
  expect_nothing(capture(client_.syn()));
  expect_account({});
  expect_flows({});
}

TEST_P(Handshake, AckOfTheClientOpensTheShadow) {
  capture(client_.syn());
  const std::vector<View> sent = capture(client_.ack());
  ASSERT_EQ(sent.size(), 1u);
  target_.meets(sent[0]);
  expect_frames(sent, {expected().syn(1460, client_.offer.shift)}, {"opt.kinds"});
  expect_account({});
  expect_flows({{"open", 1}, {"opened", 1}, {"slots", 1}});
}

TEST_P(Handshake, SynAckIsAnsweredAtOnce) {
  knock();
  ASSERT_FALSE(HasFatalFailure());
  expect_frames(consumed(target_.syn_ack()), {expected().made(client_.isn + 1, 0)});
  EXPECT_EQ(shadow().state, DP_ESTABLISHED);
  EXPECT_EQ(moved()["responses"], 1);
}

} // namespace
} // namespace doppel::bpftest
