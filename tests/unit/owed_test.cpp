// SPDX-License-Identifier: Apache-2.0
// Which connections wait for an answer of the target that the source has given.
#include "userspace/view/owed.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {
constexpr uint64_t kSecond = 1'000'000'000, kPatience = 2 * kSecond;

// A connection whose client has just asked again, and got all answers from both up to then.
dp_shadow asking(double at) {
  dp_shadow s{};
  s.gen = 7;
  s.ep.key.mapping = 3;
  s.ep.key.target = 1;
  s.tcp.state = DP_ESTABLISHED;
  s.tcp.flags = DP_SH_OWED;
  s.tcp.irs = 0xfffffff0;
  s.tcp.rcv_nxt = 100;
  s.tcp.ack_last = s.tcp.ack_seen = 5000;
  s.tcp.seen_ns = static_cast<uint64_t>(at * 1e9);
  return s;
}

// The client asks again with the source's answer.
dp_shadow goes_on(dp_shadow s, double at) {
  s.tcp.ack_last = s.tcp.ack_seen += 8;
  s.tcp.seen_ns = static_cast<uint64_t>(at * 1e9);
  return s;
}

uint64_t count(const Owed &owed, double now) {
  const auto rows = owed.longer_than(kPatience, static_cast<uint64_t>(now * 1e9));
  if (rows.empty())
    return 0;
  EXPECT_EQ(rows.begin()->first, (Owed::Row{3, 1}));
  return rows.begin()->second.connections;
}

void look(Owed &owed, const dp_shadow &s, double now, uint32_t slot = 5) {
  owed.look(slot, s, static_cast<uint64_t>(now * 1e9));
}

TEST(Owed, AConnectionThatTheSourceAloneAnswers) {
  Owed owed;
  dp_shadow s = asking(100);
  look(owed, s, 100);
  EXPECT_TRUE(owed.pending(100 * kSecond, kPatience));
  look(owed, s = goes_on(s, 101), 101);
  EXPECT_EQ(count(owed, 101), 0u) << "not for long enough";
  EXPECT_EQ(count(owed, 102), 1u);
  look(owed, asking(102), 102, 6);
  EXPECT_EQ(count(owed, 102), 1u) << "another has only begun to wait";
  EXPECT_EQ(owed.longer_than(kPatience, 102 * kSecond).begin()->second.since_ns, 100 * kSecond);
  look(owed, s, 200);
  EXPECT_EQ(count(owed, 200), 1u) << "though its client says nothing more";
}

TEST(Owed, IsOverWithAnAnswerOrTheConnection) {
  for (int how = 0; how < 4; how++) {
    Owed owed;
    dp_shadow s = asking(100);
    look(owed, s, 100);
    look(owed, s = goes_on(s, 102), 102);
    ASSERT_EQ(count(owed, 103), 1u);
    if (how == 0)
      s.tcp.flags = 0;
    else if (how == 1)
      s.tcp.rcv_nxt += 8; // answered, and asked again since
    else if (how == 2)
      s.tcp.state = DP_TIME_WAIT;
    else
      s.gen++; // another connection has its port
    s.tcp.seen_ns = 103 * kSecond;
    look(owed, s, 103);
    EXPECT_EQ(count(owed, 106), 0u) << how;
  }
}

// noreply, a long poll: the source has answered nothing either.
TEST(Owed, NotWhereNobodyAnswers) {
  Owed owed;
  dp_shadow s = asking(100);
  look(owed, s, 100);
  for (int second = 101; second < 110; second++) {
    s.tcp.seen_ns = static_cast<uint64_t>(second) * kSecond;
    look(owed, s, second);
    EXPECT_EQ(count(owed, second), 0u);
  }
  EXPECT_FALSE(owed.pending(120 * kSecond, kPatience)) << "nothing that is worth waiting for";
}

// A long poll that the source answers after ten seconds, and the target a moment later.
TEST(Owed, NotForTheMomentThatTheTargetIsBehind) {
  Owed owed;
  dp_shadow s = asking(100);
  look(owed, s, 100);
  look(owed, s = goes_on(s, 110), 110.2);
  EXPECT_EQ(count(owed, 110.2), 0u);
  EXPECT_EQ(count(owed, 111.2), 1u) << "that is no moment";
  s.tcp.rcv_nxt += 8;
  look(owed, s, 111.3);
  EXPECT_EQ(count(owed, 111.3), 0u);
}

// What was acknowledged before the first look may have been the answer to what came before.
TEST(Owed, NotByAnAnswerOfBefore) {
  Owed owed;
  dp_shadow s = asking(90);
  s.tcp.ack_seen += 8;
  look(owed, s, 100);
  look(owed, s, 110);
  EXPECT_EQ(count(owed, 110), 0u);
}

TEST(Owed, OneThatTheTargetHasNeverAnsweredNeedsNoSecondLook) {
  Owed owed;
  dp_shadow s = asking(90);
  s.tcp.rcv_nxt = s.tcp.irs + 1;
  look(owed, s, 100);
  EXPECT_EQ(count(owed, 100), 0u) << "nor has the source";
  s.tcp.ack_seen += 8;
  Owed another;
  look(another, s, 100);
  EXPECT_EQ(count(another, 100), 1u);
}

} // namespace
} // namespace doppel
