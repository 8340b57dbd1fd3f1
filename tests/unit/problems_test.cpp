// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/problems.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {
using Sentences = std::vector<std::string>;

TEST(Problems, AreToldWhenTheyComeAndWhenTheyGo) {
  Problems p;
  auto news = p.found("plan", {"device eth1 is missing", "device eth0 is down"});
  EXPECT_EQ(news.begun, (Sentences{"device eth0 is down", "device eth1 is missing"}));
  EXPECT_EQ(news.over, Sentences{});
  news = p.found("plan", {"device eth0 is down"});
  EXPECT_EQ(news.begun, Sentences{});
  EXPECT_EQ(news.over, Sentences{"device eth1 is missing"});
  EXPECT_TRUE(p.found("plan", {"device eth0 is down"}).empty());
  EXPECT_TRUE(p.any_of("plan"));
}

// A review that does not ask the neighbours says nothing of them.
TEST(Problems, LastUntilTheSameCheckIsMadeAgain) {
  Problems p;
  (void)p.found("neighbours", {"10.0.0.2 does not answer"});
  EXPECT_TRUE(p.found("plan", {}).empty());
  EXPECT_TRUE(p.found("review", {}).empty());
  EXPECT_EQ(p.all(), (std::set<std::string>{"10.0.0.2 does not answer"}));
  EXPECT_FALSE(p.any_of("plan"));
  EXPECT_TRUE(p.any_of("neighbours"));
  EXPECT_TRUE(p.found("neighbours", {"10.0.0.2 does not answer"}).empty());
  EXPECT_EQ(p.found("neighbours", {}).over, Sentences{"10.0.0.2 does not answer"});
  EXPECT_TRUE(p.all().empty());
}

TEST(Problems, FoundByTwoChecksAreToldOnce) {
  Problems p;
  (void)p.found("review", {"no route"});
  EXPECT_TRUE(p.found("plan", {"no route"}).empty());
  EXPECT_TRUE(p.found("review", {}).empty());
  EXPECT_EQ(p.found("plan", {}).over, Sentences{"no route"});
}

} // namespace
} // namespace doppel
