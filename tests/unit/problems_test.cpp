// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/problems.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {
using Sentences = std::vector<std::string>;

std::vector<Problem> of(const Sentences &sentences) {
  return as_problems(ProblemKind::host, sentences);
}

Sentences all(const Problems &p) {
  Sentences list;
  for (const Problem &problem : p.all())
    list.push_back(problem.what);
  return list;
}

TEST(Problems, AreToldWhenTheyComeAndWhenTheyGo) {
  Problems p;
  auto news = p.found("plan", of({"device eth1 is missing", "device eth0 is down"}));
  EXPECT_EQ(news.begun, (Sentences{"device eth1 is missing", "device eth0 is down"}));
  EXPECT_EQ(news.over, Sentences{});
  news = p.found("plan", of({"device eth0 is down"}));
  EXPECT_EQ(news.begun, Sentences{});
  EXPECT_EQ(news.over, Sentences{"device eth1 is missing"});
  EXPECT_TRUE(p.found("plan", of({"device eth0 is down"})).empty());
  EXPECT_TRUE(p.any_of("plan"));
}

// A review that does not ask the neighbours says nothing of them.
TEST(Problems, LastUntilTheSameCheckIsMadeAgain) {
  Problems p;
  (void)p.found("neighbours", of({"10.0.0.2 does not answer"}));
  EXPECT_TRUE(p.found("plan", {}).empty());
  EXPECT_TRUE(p.found("review", {}).empty());
  EXPECT_EQ(all(p), Sentences{"10.0.0.2 does not answer"});
  EXPECT_FALSE(p.any_of("plan"));
  EXPECT_TRUE(p.any_of("neighbours"));
  EXPECT_TRUE(p.found("neighbours", of({"10.0.0.2 does not answer"})).empty());
  EXPECT_EQ(p.found("neighbours", {}).over, Sentences{"10.0.0.2 does not answer"});
  EXPECT_TRUE(p.all().empty());
}

TEST(Problems, FoundByTwoChecksAreToldOnce) {
  Problems p;
  (void)p.found("review", of({"no route"}));
  EXPECT_TRUE(p.found("plan", of({"no route"})).empty());
  EXPECT_TRUE(p.found("review", {}).empty());
  EXPECT_EQ(p.found("plan", {}).over, Sentences{"no route"});
}

// Some of a target's connections wait for an answer, then all of them.
TEST(Problems, AreToldAgainAsTheyGetGraver) {
  Problems p;
  const auto hung = [](const char *what, int grade) {
    return std::vector<Problem>{{ProblemKind::hung, what, "", 0, "hung a", grade}};
  };
  EXPECT_EQ(p.found("vitals", hung("1 of 20 wait", 0)).begun, Sentences{"1 of 20 wait"});
  auto news = p.found("vitals", hung("answers none", 1));
  EXPECT_EQ(news.begun, Sentences{"answers none"});
  EXPECT_EQ(news.over, Sentences{});
  EXPECT_TRUE(p.found("vitals", hung("3 of 20 wait", 0)).empty());
  EXPECT_TRUE(p.found("vitals", hung("answers none", 1)).empty());
  EXPECT_EQ(p.found("vitals", {}).over, Sentences{"answers none"});
}

// "12 s" becomes "14 s": that is no news, and what is over is told as it came.
TEST(Problems, AreTheSameWhileTheirKeyIs) {
  Problems p;
  const auto waits = [](const char *what) {
    return std::vector<Problem>{{ProblemKind::silent, what, "", 0, "silent a"}};
  };
  EXPECT_EQ(p.found("vitals", waits("40 B wait"), 100).begun, Sentences{"40 B wait"});
  const auto news = p.found("vitals", waits("80 B wait"), 102);
  EXPECT_TRUE(news.empty());
  EXPECT_EQ(all(p), Sentences{"80 B wait"});
  EXPECT_EQ(p.all()[0].since, 100) << "when it was found first";
  EXPECT_EQ(p.of("vitals").size(), 1u);
  EXPECT_EQ(p.found("vitals", {}, 104).over, Sentences{"40 B wait"});
  EXPECT_EQ(p.found("vitals", waits("1 B waits"), 106).begun, Sentences{"1 B waits"});
  EXPECT_EQ(p.all()[0].since, 106);
}

} // namespace
} // namespace doppel
