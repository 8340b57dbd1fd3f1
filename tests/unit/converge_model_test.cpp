// SPDX-License-Identifier: Apache-2.0
// The guarantee of "converge", over everything that may happen to one key: when all is delivered
// and every note is seen to, both servers have the same. And that each part of the method is
// needed: without it the checker finds a key for which that is not so.
#include <gtest/gtest.h>

#include "tests/unit/converge_model.h"

using namespace doppel::migrate;
using namespace doppel::migrate::converge_model;

namespace {
using End = KeyConvergence::End;

// Holds, and is not about nothing: keys were equal, repaired, and deleted.
void expect_sound(const World &world, uint64_t at_least_states) {
  const auto found = explore(world);
  EXPECT_FALSE(found.wrong) << found.trace;
  EXPECT_GE(found.states, at_least_states);
  EXPECT_EQ(found.outcomes, (std::set<End>{End::equal, End::repaired, End::deleted}));
}

World broken(bool Method::*part) {
  World world;
  world.alphabet = {Op::del, Op::set};
  world.method.*part = false;
  return world;
}

void expect_wrong(const World &world, const std::string &why) {
  const auto found = explore(world);
  EXPECT_TRUE(found.wrong);
  EXPECT_TRUE(found.trace.ends_with(why)) << found.trace;
}

} // namespace

TEST(ConvergeModel, ThreeCommandsOfAnyKind) { expect_sound({.connections = 1}, 500000); }

TEST(ConvergeModel, ThreeCommandsOnTwoConnections) {
  World world;
  world.alphabet = {Op::set_ttl, Op::add, Op::del, Op::incr, Op::touch, Op::cas};
  expect_sound(world, 1000000);
}

TEST(ConvergeModel, FourSetsAndDeletes) {
  expect_sound({.ops = 4, .alphabet = {Op::set, Op::del}}, 400000);
}

TEST(ConvergeModel, FourAddsAndDeletes) {
  expect_sound({.ops = 4, .alphabet = {Op::add, Op::del}}, 400000);
}

TEST(ConvergeModel, FourSetsAndIncrs) {
  expect_sound({.ops = 4, .alphabet = {Op::set, Op::incr}}, 800000);
}

TEST(ConvergeModel, FourTouchesAndDeletes) {
  expect_sound({.ops = 4, .alphabet = {Op::touch, Op::del}}, 300000);
}

TEST(ConvergeModel, ACrash) { expect_sound({.ops = 2, .crashes = 1}, 200000); }

TEST(ConvergeModel, TheNextLookBeginsBeforeTheLastHasConfirmed) {
  expect_sound({.ops = 2, .crashes = 1, .looks = 2}, 300000);
  expect_sound({.ops = 3, .crashes = 1, .looks = 2, .alphabet = {Op::set, Op::del}}, 100000);
}

TEST(ConvergeModel, TwoCrashes) {
  expect_sound({.ops = 2, .crashes = 2, .alphabet = {Op::set, Op::del, Op::incr}}, 30000);
}

TEST(ConvergeModel, WithTheSourcesCas) {
  World world{.ops = 2, .crashes = 1};
  world.method.copies_cas = true;
  expect_sound(world, 200000);
}

// What warm copies it may have to delete again, and the look before that found it equal.
TEST(ConvergeModel, BesideWarm) {
  World world{.ops = 2, .warms = true};
  expect_sound(world, 100000);
  EXPECT_EQ(explore(world).warm_outcomes,
            (std::set<Outcome>{Outcome::added, Outcome::present, Outcome::gone}));
  world.ops = 3;
  for (const Op op : {Op::set, Op::del, Op::incr, Op::touch, Op::add}) {
    world.alphabet = {Op::set, op};
    expect_sound(world, 100000);
  }
  expect_sound(
      {.ops = 2, .crashes = 1, .looks = 2, .warms = true, .alphabet = {Op::set, Op::del, Op::incr}},
      300000);
}

// It drops what a repair has made of its copy, and nobody looks at the key again.
TEST(ConvergeModel, WarmHasToKnowThatSomebodyConverges) {
  World world{.connections = 1, .ops = 3, .warms = true, .alphabet = {Op::incr}};
  world.method.warm_knows = false;
  expect_wrong(world, "the target has none");
}

// The look is before the source has executed what the target has had already.
TEST(ConvergeModel, WithoutRestEqualIsNotEqualForLong) {
  World world = broken(&Method::rests);
  world.method.confirms_equal = false;
  world.ops = 2;
  world.alphabet = {Op::set, Op::cas};
  expect_wrong(world, "the source has another value or time to live");
}

TEST(ConvergeModel, WithoutRestADeleteAfterASetIsMissed) {
  expect_wrong(broken(&Method::rests), "the source has none");
}

TEST(ConvergeModel, WithoutDrainAnIncrCountsTwice) {
  World world = broken(&Method::drains);
  world.connections = 1;
  world.alphabet = {Op::incr};
  expect_wrong(world, "the source has another value or time to live");
}

TEST(ConvergeModel, WithoutConfirmASetIsLost) {
  expect_wrong(broken(&Method::confirms), "the target has none");
}

// A and B delete, B stores: only B's delete is noted, and the target has A's last.
TEST(ConvergeModel, WhatIsEqualIsConfirmed) {
  const auto found = explore(broken(&Method::confirms_equal));
  EXPECT_TRUE(found.wrong);
  EXPECT_TRUE(found.trace.ends_with("it has drained and finds it equal\nthe target has none"))
      << found.trace;
}

// That alone is no wrong end, since the look afterwards finds that the source has changed.
TEST(ConvergeModel, WithoutTheTargetsCasSomethingNewerIsReplaced) {
  World world = broken(&Method::names_cas);
  const auto found = explore(world);
  EXPECT_TRUE(found.wrong);
  EXPECT_NE(found.trace.find("what it has not compared"), std::string::npos) << found.trace;
}

TEST(ConvergeModel, AfterACrashItsRequestsAreAwaited) {
  World world = broken(&Method::awaits);
  world.crashes = 1;
  world.ops = 2;
  world.alphabet = {Op::del};
  expect_wrong(world, "the source has none");
}
