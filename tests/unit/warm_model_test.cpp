// SPDX-License-Identifier: Apache-2.0
// The guarantee of warm (docs/warm.md), over everything that may happen to one key: when all is
// delivered, what warm wrote is what the source has. And that each part of the method is needed:
// without it the checker finds a key for which that is not so.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/unit/warm_model.h"

using namespace doppel::migrate;
using namespace doppel::migrate::model;

namespace {
constexpr auto kKinds = static_cast<unsigned>(Op::count);

// Holds, and is not about nothing: copies were confirmed, found there, and given up.
void expect_sound(const World &world, uint64_t at_least_states) {
  const auto found = explore(world);
  EXPECT_FALSE(found.wrong) << found.trace;
  EXPECT_GE(found.states, at_least_states);
  EXPECT_TRUE(found.outcomes.contains(world.repair ? Outcome::repaired : Outcome::added));
  EXPECT_TRUE(found.outcomes.contains(Outcome::present));
}

// `with`: of the pairs those that have that one.
void expect_sound_for_each_pair(World world, Op with = Op::count) {
  for (unsigned a = 0; a < kKinds; a++)
    for (unsigned b = a + 1; b < kKinds; b++) {
      const auto kind = static_cast<unsigned>(with);
      if (with != Op::count && a != kind && b != kind)
        continue;
      world.alphabet = {static_cast<Op>(a), static_cast<Op>(b)};
      const auto found = explore(world);
      EXPECT_FALSE(found.wrong) << found.trace;
      EXPECT_GT(found.ends, 30u);
    }
}

World broken(bool Method::*part) {
  World world;
  world.ops = 3;
  world.method.*part = false;
  return world;
}

} // namespace

// Six of them (DOPPEL_MODEL_OPS=6) take a quarter of an hour and 7 GB.
TEST(WarmModel, FourCommandsOfAnyKind) {
  const char *more = std::getenv("DOPPEL_MODEL_OPS");
  const auto ops = more ? static_cast<unsigned>(std::atoi(more)) : 4;
  expect_sound({.connections = 1, .ops = ops}, 500000);
}

TEST(WarmModel, ThreeCommandsOfAnyKindAndACrash) {
  expect_sound({.connections = 1, .ops = 3, .crashes = 1}, 100000);
}

TEST(WarmModel, TwoCommandsOfAnyKindAndTwoCrashes) {
  expect_sound({.connections = 1, .ops = 2, .crashes = 2}, 10000);
}

TEST(WarmModel, SixCommandsOfEachTwoKinds) {
  expect_sound_for_each_pair({.connections = 1, .ops = 6});
}

TEST(WarmModel, FiveCommandsOfEachTwoKindsAndACrash) {
  expect_sound_for_each_pair({.connections = 1, .ops = 5, .crashes = 1});
}

TEST(WarmModel, ThreeCommandsOnTwoConnections) {
  expect_sound({.connections = 2, .ops = 3}, 1000000);
}

TEST(WarmModel, TwoCommandsOnTwoConnectionsAndACrash) {
  expect_sound({.connections = 2, .ops = 2, .crashes = 1}, 100000);
}

TEST(WarmModel, FourCommandsOnTwoConnectionsADeleteAmongThem) {
  expect_sound_for_each_pair({.connections = 2, .ops = 4}, Op::del);
}

TEST(WarmModel, WithTheSourcesCas) {
  World world{.connections = 1, .ops = 4};
  world.method.copies_cas = true;
  expect_sound(world, 500000);
}

TEST(WarmModel, RepairOfWhatDiffers) {
  expect_sound({.connections = 1, .ops = 3, .repair = true}, 100000);
}

TEST(WarmModel, RepairAndACrash) {
  expect_sound({.connections = 1, .ops = 2, .crashes = 1, .repair = true}, 10000);
}

// A key that is written to all the time is given up, and the target has none of ours.
TEST(WarmModel, GivesUp) {
  World world{.connections = 1, .ops = 3};
  world.alphabet = {Op::incr};
  EXPECT_TRUE(explore(world).outcomes.contains(Outcome::undone));
}

// What the mirror brought after our copy is newer: it stays, however often clients write.
TEST(WarmModel, NeverTakesAwayWhatTheMirrorBrought) {
  for (const bool repair : {false, true}) {
    World world{.connections = 1, .ops = 5};
    world.alphabet = {Op::set};
    world.repair = repair;
    const auto found = explore(world);
    EXPECT_GT(found.ends, 30u);
    EXPECT_EQ(found.lacking, 0u);
    EXPECT_FALSE(found.outcomes.contains(Outcome::undone));
  }
}

// A touch is no new value: the end may go on moving while the mirror moves it at the target, too.
TEST(WarmModel, WhatIsTouchedIsCopied) {
  KeyCopy copy(false);
  copy.read({true, 7, 10, 100});
  copy.drained();
  copy.added(Stored::stored, 3);
  copy.settled();
  copy.confirmed({true, 7, 10, 104}, IfChanged::compare);
  ASSERT_EQ(copy.outcome(), Outcome::contested);
  KeyRepair repair(1);
  repair.read({true, 7, 10, 108});
  repair.drained();
  repair.compared({true, 3, true});
  repair.settled();
  repair.confirmed({true, 7, 10, 112}, IfChanged::compare);
  EXPECT_EQ(repair.outcome(), Outcome::present);
}

// Of a key that is never quiet what differs is deleted by the CAS of the last look: what came later
// stays.
TEST(WarmModel, GivesUpWhatIsNeverQuiet) {
  KeyRepair repair(1);
  uint64_t cas = 1;
  while (repair.step() != Step::undo) {
    ASSERT_LT(cas, 100u);
    repair.read({true, cas, 10, kNever});
    repair.drained();
    repair.compared({true, ++cas, false});
    if (repair.step() == Step::settle)
      repair.settled();
  }
  EXPECT_EQ(repair.undo_cas(), cas);
  repair.undone(Deleted::changed, IfChanged::compare);
  EXPECT_EQ(repair.outcome(), Outcome::undone);
}

TEST(WarmModel, WithoutDrainAnIncrCountsTwice) {
  World world = broken(&Method::drains);
  world.alphabet = {Op::incr};
  const auto found = explore(world);
  EXPECT_TRUE(found.wrong);
  EXPECT_NE(found.trace.find("target gets incr"), std::string::npos) << found.trace;
}

TEST(WarmModel, WithoutConfirmADeletedKeyComesBack) {
  World world = broken(&Method::confirms);
  world.alphabet = {Op::del};
  const auto found = explore(world);
  EXPECT_TRUE(found.wrong);
  EXPECT_NE(found.trace.find("the source has none"), std::string::npos) << found.trace;
}

TEST(WarmModel, WithoutSettleADeletedKeyComesBack) {
  World world = broken(&Method::settles);
  world.alphabet = {Op::del};
  EXPECT_TRUE(explore(world).wrong);
}

TEST(WarmModel, WithoutTheEndATouchIsMissed) {
  World world = broken(&Method::sees_ends);
  world.alphabet = {Op::touch};
  EXPECT_TRUE(explore(world).wrong);
}

TEST(WarmModel, WithoutTimeToLiveACopyIsImmortal) {
  EXPECT_TRUE(explore(broken(&Method::keeps_ends)).wrong);
}

TEST(WarmModel, WhatChangedAfterTheAddMustGo) {
  EXPECT_TRUE(explore(broken(&Method::compares)).wrong);
}

TEST(WarmModel, AfterACrashItsRequestsAreAwaited) {
  World world = broken(&Method::awaits);
  world.crashes = 1;
  EXPECT_TRUE(explore(world).wrong);
}

TEST(WarmModel, AfterACrashItsCopiesAreUnconfirmed) {
  World world = broken(&Method::unsettled);
  world.crashes = 1;
  EXPECT_TRUE(explore(world).wrong);
}

TEST(WarmModel, RepairNeedsEachPartToo) {
  for (bool Method::*part :
       {&Method::drains, &Method::settles, &Method::confirms, &Method::sees_ends}) {
    World world = broken(part);
    world.repair = true;
    EXPECT_TRUE(explore(world).wrong);
  }
}

TEST(WarmModel, TheLooksAreComparedInAllThatTheyTell) {
  const Look look{true, 7, 100, 50};
  EXPECT_TRUE(is_same(look, {true, 7, 100, 50 + kEndSlack}));
  EXPECT_FALSE(is_same(look, {true, 7, 100, 50 + kEndSlack}, kEndSlack - 1));
  EXPECT_TRUE(is_same(look, {true, 7, kSizeUnknown, 50}));
  EXPECT_FALSE(is_same(look, {true, 8, 100, 50}));
  EXPECT_FALSE(is_same(look, {true, 7, 101, 50}));
  EXPECT_FALSE(is_same(look, {true, 7, 100, 50 + kEndSlack + 1}));
  EXPECT_FALSE(is_same(look, {true, 7, 100, kNever}));
  EXPECT_FALSE(is_same(look, {}));
}
