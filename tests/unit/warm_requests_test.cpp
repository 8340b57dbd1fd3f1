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

} // namespace doppel::migrate
