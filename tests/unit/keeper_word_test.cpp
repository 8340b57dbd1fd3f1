// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/keeper_word.h"

#include <gtest/gtest.h>

#include "doppel/abi.h"

namespace doppel {
namespace {
constexpr size_t kMappings = 64, kRoom = DP_META_SIZE - 1;

// All targets of the largest configuration, each with two problems, and names as long as can be.
KeeperWord many(int targets) {
  KeeperWord w;
  w.pid = 4711;
  w.since = 1'700'000'000;
  w.said_ns = 9'000'000'000'000'000;
  w.looked_ns = w.said_ns - 1;
  for (const ProblemKind kind : {ProblemKind::refusing, ProblemKind::loss})
    for (int i = 0; i < targets; i++) {
      const std::string mapping = std::string(30, 'x') + std::to_string(i / 4);
      const std::string target = "[2001:db8:1111:2222:3333:4444:5555:6666]:" + std::to_string(i);
      const std::string key = target_key(mapping, target);
      w.problems.push_back({kind, std::string(150, 'w') + key, help_of(kind).hint, w.since,
                            std::string(help_of(kind).name) + " " + mapping + " " + target});
      w.lost[key] = 1'000'000'000;
      w.tried[key] = {w.said_ns, false, true};
    }
  return w;
}

TEST(KeeperWord, IsReadAsItWasGiven) {
  auto w = many(2);
  w.problems.push_back({ProblemKind::host, "no route", "mend it", 5, {}});
  const auto read = keeper_word_of(text_of(w, kRoom));
  EXPECT_FALSE(read.shortened);
  EXPECT_EQ(read.pid, w.pid);
  EXPECT_EQ(read.since, w.since);
  EXPECT_EQ(read.said_ns, w.said_ns);
  EXPECT_EQ(read.looked_ns, w.looked_ns);
  EXPECT_EQ(read.lost, w.lost);
  ASSERT_EQ(read.tried.size(), 2U);
  EXPECT_TRUE(read.tried.begin()->second.refused);
  ASSERT_EQ(read.problems.size(), w.problems.size());
  for (size_t i = 0; i < w.problems.size(); i++) {
    EXPECT_EQ(read.problems[i].kind, w.problems[i].kind);
    EXPECT_EQ(read.problems[i].what, w.problems[i].what);
    EXPECT_EQ(read.problems[i].hint, w.problems[i].hint);
    EXPECT_EQ(read.problems[i].since, w.problems[i].since);
    EXPECT_EQ(read.problems[i].key, w.problems[i].key);
  }
}

TEST(KeeperWord, AlwaysFits) {
  for (int targets = 0; targets <= int{kMappings} * DP_MAX_TARGETS; targets += 16) {
    const auto w = many(targets);
    const std::string text = text_of(w, kRoom);
    ASSERT_LE(text.size(), kRoom) << targets;
    const auto read = keeper_word_of(text);
    EXPECT_EQ(read.looked_ns, w.looked_ns) << targets;
    const bool whole = read.problems.size() == w.problems.size() &&
                       read.lost.size() == w.lost.size() && read.tried.size() == w.tried.size();
    EXPECT_EQ(read.shortened, !whole) << targets;
  }
  EXPECT_TRUE(keeper_word_of(text_of(many(256), kRoom)).shortened);
}

TEST(KeeperWord, LeavesOutWhatIsLeastImportant) {
  const auto w = many(100);
  const size_t all = text_of(w, SIZE_MAX).size();
  auto read = keeper_word_of(text_of(w, all - 1));
  EXPECT_TRUE(read.tried.empty());
  EXPECT_EQ(read.lost.size(), 100U);
  EXPECT_EQ(read.problems.size(), 200U);
  read = keeper_word_of(text_of(w, all / 2));
  EXPECT_TRUE(read.lost.empty());
  ASSERT_FALSE(read.problems.empty());
  EXPECT_LT(read.problems.size(), 200U);
  for (size_t i = 0; i < read.problems.size(); i++)
    EXPECT_EQ(read.problems[i].what, w.problems[i].what);
}

TEST(KeeperWord, ALongSentenceDoesNotKeepTheGravestOut) {
  KeeperWord w = many(0);
  w.problems.push_back({ProblemKind::host, std::string(2 * kRoom, 'x'), "", 0, {}});
  const auto read = keeper_word_of(text_of(w, kRoom));
  EXPECT_TRUE(read.shortened);
  ASSERT_EQ(read.problems.size(), 1U);
  EXPECT_EQ(read.problems[0].kind, ProblemKind::host);
}

} // namespace
} // namespace doppel
