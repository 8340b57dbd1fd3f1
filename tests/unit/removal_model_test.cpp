// SPDX-License-Identifier: Apache-2.0
// The guarantee of warm --delete-extra (docs/warm.md), over everything that may happen to one key,
// and that each part of the method is needed.
#include <gtest/gtest.h>

#include "tests/unit/removal_model.h"

using namespace doppel::migrate::model;

namespace {
void expect_sound(const RemovalWorld &world, uint64_t at_least_states) {
  const auto found = explore(world);
  EXPECT_FALSE(found.wrong) << found.trace;
  EXPECT_GE(found.states, at_least_states);
  EXPECT_GT(found.removed, 0u);
  EXPECT_GT(found.kept, 0u);
  EXPECT_GT(found.returned, 0u);
}

RemovalWorld broken(bool Method::*part) {
  RemovalWorld world{.ops = 3};
  world.method.*part = false;
  return world;
}

} // namespace

TEST(RemovalModel, FourCommandsOfAnyKind) { expect_sound({.connections = 1, .ops = 4}, 1000000); }
TEST(RemovalModel, TwoCommandsOnTwoConnections) {
  expect_sound({.connections = 2, .ops = 2}, 10000);
}
TEST(RemovalModel, WithoutSettle) { EXPECT_TRUE(explore(broken(&Method::settles)).wrong); }
TEST(RemovalModel, WithoutALookBehindIt) { EXPECT_TRUE(explore(broken(&Method::confirms)).wrong); }

// What the target has before the source would be removed, and be repaired later.
TEST(RemovalModel, ASecondLookSparesWhatIsBeingWritten) {
  RemovalWorld world{.ops = 3, .alphabet = {Op::set, Op::del}};
  EXPECT_EQ(explore(world).spoiled, 0u);
  world.method.looks_twice = false;
  EXPECT_GT(explore(world).spoiled, 0u);
}
