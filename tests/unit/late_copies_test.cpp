// SPDX-License-Identifier: Apache-2.0
// When copies count as later than capture remembers who has written to a key.
#include "userspace/migrate/late_copies.h"

#include <gtest/gtest.h>

namespace doppel::migrate {
namespace {
constexpr uint64_t kStep = LateCopies::kPeriodNs, kSecond = 1'000'000'000;
constexpr uint32_t kRow = 3;

dp_shadow shadow(uint32_t una, uint32_t end, uint32_t gen = 1) {
  dp_shadow s{};
  s.gen = gen;
  s.ep.key.mapping = kRow;
  s.tcp.state = DP_ESTABLISHED;
  s.tcp.una = una;
  s.tcp.end = end;
  return s;
}

class Late : public testing::Test {
protected:
  LateCopies copies_;
  uint64_t now_ = 100 * kSecond;

  bool look(const std::vector<dp_shadow> &shadows, uint64_t step = kStep) {
    now_ += step;
    return copies_.look(shadows, kRow, now_);
  }
  // The first look that finds them late, so many ns after the first of all; 0: none of 20.
  uint64_t found_after(const std::vector<dp_shadow> &shadows) {
    const uint64_t begin = now_;
    for (int n = 0; n < 20; n++)
      if (look(shadows))
        return now_ - begin;
    return 0;
  }
};

TEST_F(Late, BytesThatStay) {
  EXPECT_FALSE(look({shadow(5, 5)}));
  // They may have come right behind that look.
  const uint64_t after = found_after({shadow(5, 6)});
  EXPECT_GT(after, 2 * kSecond);
  EXPECT_LE(after + kStep, DP_KEY_RACE_NS);
  EXPECT_GT(found_after({shadow(5, 6)}), 0u); // again, as it goes on
}

TEST_F(Late, BytesThatMoveOn) {
  for (uint32_t n = 0; n < 40; n++)
    EXPECT_FALSE(look({shadow(n, n + 3)})) << n; // each is there for three looks
  const uint32_t wraps = UINT32_MAX - 20;
  copies_ = LateCopies();
  for (uint32_t n = 0; n < 40; n++)
    EXPECT_FALSE(look({shadow(wraps + n, wraps + n + 3)})) << n;
}

TEST_F(Late, OthersDoNotCount) {
  dp_shadow other = shadow(5, 6), over = shadow(5, 6), free = shadow(5, 6);
  other.ep.key.mapping = kRow + 1;
  over.tcp.state = DP_TIME_WAIT;
  free.tcp.state = DP_CLOSED;
  EXPECT_EQ(found_after({other, over, free, shadow(6, 6)}), 0u);
}

TEST_F(Late, AnotherShadowOfTheSlot) {
  for (uint32_t n = 0; n < 20; n++)
    EXPECT_FALSE(look({shadow(5, 6, n)})) << n;
}

TEST_F(Late, OneAmongMany) {
  std::vector<dp_shadow> all(100, shadow(5, 5));
  EXPECT_FALSE(look(all));
  all[70] = shadow(5, 6);
  EXPECT_GT(found_after(all), 0u);
}

// What was behind before may have been delivered at any time since.
TEST_F(Late, NobodyLooksForAWhile) {
  EXPECT_FALSE(look({shadow(5, 6)}));
  EXPECT_FALSE(look({shadow(6, 6)}, 3 * kSecond));
  EXPECT_TRUE(look({shadow(6, 6)}, DP_KEY_RACE_NS + 1));
  EXPECT_FALSE(look({shadow(6, 7)}));
  EXPECT_TRUE(look({shadow(7, 7)}, DP_KEY_RACE_NS - kStep + 1));
  EXPECT_FALSE(look({shadow(7, 7)}));
}

} // namespace
} // namespace doppel::migrate
