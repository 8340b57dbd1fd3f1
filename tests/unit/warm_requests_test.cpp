// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "userspace/memcached/meta.h"
#include "userspace/migrate/warm_requests.h"

namespace doppel::migrate {
namespace {
constexpr int64_t kNow = 1'800'000'000;

WarmClock clock_at(int64_t time) {
  return WarmClock(memcached::Stats{{"time", std::to_string(time)}});
}

Look look(const std::string &line, const WarmClock &clock) {
  const memcached::Answer answer{line, {}};
  return look_answer(answer, "k", clock)->look;
}

} // namespace

TEST(WarmClock, LongTimesToLiveAreTimesOfTheTarget) {
  const WarmClock clock = clock_at(kNow);
  EXPECT_EQ(clock.end_for(1), kNow + 1);
  EXPECT_EQ(clock.end_for(2'592'001), kNow + 2'592'001);
}

// memcached takes a larger number for a time that is over.
TEST(WarmClock, NoTimeIsLaterThanTextCanTell) {
  const WarmClock clock = clock_at(kNow);
  for (const int64_t left : {memcached::kLastTime - kNow, memcached::kLastTime - kNow + 5,
                             memcached::kLastTime, int64_t{0xffffffff}})
    EXPECT_EQ(clock.end_for(left), memcached::kLastTime);
}

TEST(WarmClock, WhatEndsLaterEndsAlike) {
  const WarmClock clock = clock_at(kNow);
  const int32_t last = clock.end_of(memcached::kLastTime - kNow);
  EXPECT_EQ(clock.end_of(memcached::kLastTime - kNow - 30), last);
  EXPECT_EQ(clock.end_of(0xffffffff), last);
  EXPECT_LT(clock.end_of(memcached::kLastTime - kNow - 100), last);
  EXPECT_LT(last, kNever);
}

// memcached 1.6.18 tells what remains with the wrong sign, and of 2^31 s and more as 32 bits.
TEST(WarmClock, BothLooksAtWhatEndsLaterAreAlike) {
  const WarmClock clock = clock_at(kNow);
  const Look me = look("ME k exp=1795827647 la=0 cas=7 fetch=no cls=1 size=62", clock);
  EXPECT_EQ(me.ends, clock.end_of(0xffffffff - kNow));
  EXPECT_NE(me.ends, look("ME k exp=-100 la=0 cas=7 fetch=no cls=1 size=62", clock).ends);
}

TEST(ReadAnswer, WhatAClientRenewsIsReadAndWhatItFillsIsNotThere) {
  const WarmClock clock = clock_at(kNow);
  const auto renewed = *read_answer({"VA 1 c7 f0 t20 O3 Z", "a", true}, 3, clock);
  EXPECT_TRUE(renewed.look.there && !renewed.stale && !renewed.claimed);
  const auto filled = *read_answer({"VA 0 c7 f0 t20 O3 Z", "", true}, 3, clock);
  EXPECT_TRUE(!filled.look.there && !filled.stale);
  EXPECT_EQ(filled.claimed, 7u);
  EXPECT_EQ(read_answer({"HD c7 s0 t20 O3 Z", {}}, 3, clock)->claimed, 7u);
  EXPECT_FALSE(read_answer({"HD c7 s5 t20 O3 Z", {}}, 3, clock)->claimed);
  EXPECT_TRUE(read_answer({"VA 0 c7 f0 t20 O3 X Z", "", true}, 3, clock)->stale);
  EXPECT_TRUE(read_answer({"VA 0 c7 f0 t20 O3", "", true}, 3, clock)->look.there) << "just empty";
}

// An add finds it there, so that it is replaced.
TEST(Compared, WhatAClientFillsAtTheTargetIsThereForTheSourcesItemAlone) {
  const WarmClock clock = clock_at(kNow);
  const auto filled = *read_answer({"VA 0 c7 f0 t20 O3 Z", "", true}, 3, clock);
  const auto item = *read_answer({"VA 0 c9 f0 t20 O3", "", true}, 3, clock);
  const Compared to_item = compared(item.look, kept(item), filled);
  EXPECT_TRUE(to_item.there && !to_item.equal);
  EXPECT_EQ(to_item.cas, 7u);
  EXPECT_FALSE(compared(filled.look, kept(filled), filled).there);
  EXPECT_TRUE(compared(filled.look, kept(filled), item).there) << "to be deleted";
}

} // namespace doppel::migrate
