// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <map>
#include <set>
#include <string>

#include "tests/unit/show_errors.h"
#include "userspace/migrate/compare.h"
#include "userspace/migrate/key_list.h"
#include "userspace/migrate/spool.h"
#include "userspace/migrate/verify.h"
#include "userspace/migrate/walk.h"
#include "userspace/util/clock.h"

namespace doppel::migrate {
namespace {
KeyList list_of(const std::string &lines) {
  KeyList list;
  auto spool = open_spool();
  EXPECT_TRUE(spool) << show_errors(spool.errors());
  list.file = std::move(*spool);
  EXPECT_EQ(::write(list.file.get(), lines.data(), lines.size()),
            static_cast<ssize_t>(lines.size()));
  return list;
}

std::string line_of(const std::string &key) {
  return "key=" + key + " exp=-1 la=5 cas=1 fetch=no cls=1 size=70\n";
}

TEST(KeyList, IsReadLineByLine) {
  std::string lines = "nonsense\n";
  constexpr unsigned kKeys = 50'000; // several blocks
  for (unsigned i = 0; i < kKeys; i++)
    lines += line_of("key%3A" + std::to_string(i));
  const auto list = list_of(lines + "key=cut");
  ListReader reader(list.file.get());
  memcached::DumpLine line;
  for (unsigned i = 0; i < kKeys; i++) {
    ASSERT_TRUE(reader.next(line)) << i;
    ASSERT_EQ(line.key, "key:" + std::to_string(i));
    if (i == 777) {
      const auto again = line_at(list, reader.offset());
      ASSERT_TRUE(again);
      EXPECT_EQ(again->key, "key:777");
    }
  }
  EXPECT_FALSE(reader.next(line));
  EXPECT_TRUE(reader.status());
  EXPECT_FALSE(reader.next(line));
  EXPECT_EQ(reader.take_unreadable(), 2u); // the first and the one without an end
  EXPECT_EQ(reader.take_unreadable(), 0u);
  EXPECT_FALSE(line_at(list, 1));
}

TEST(KeyList, MoreThanABlockWithoutALineIsToldAsUnreadable) {
  const auto list = list_of(line_of("a") + std::string(3 << 20, '\0') + "\n" + line_of("b"));
  ListReader reader(list.file.get());
  memcached::DumpLine line;
  ASSERT_TRUE(reader.next(line));
  EXPECT_EQ(reader.take_unreadable(), 0u);
  while (reader.next(line))
    ;
  EXPECT_GT(reader.take_unreadable(), 0u);
}

TEST(KeyList, AFileThatCannotBeReadIsAnError) {
  ListReader reader(-1);
  memcached::DumpLine line;
  EXPECT_FALSE(reader.next(line));
  EXPECT_FALSE(reader.status());
}

TEST(KeyList, EachKeyHasTheSameChance) {
  std::string lines;
  for (unsigned i = 0; i < 20; i++)
    lines += line_of((i % 2 ? "odd" : "even") + std::to_string(i));
  const auto list = list_of(lines);
  std::map<uint64_t, unsigned> chosen;
  for (uint64_t seed = 0; seed < 4000; seed++) {
    uint64_t matching = 0;
    const auto sample = sample_of(list, "odd", 3, seed, matching);
    ASSERT_TRUE(sample);
    EXPECT_EQ(matching, 10u);
    EXPECT_EQ(std::set<uint64_t>(sample->begin(), sample->end()).size(), 3u);
    for (const uint64_t offset : *sample)
      chosen[offset]++;
  }
  ASSERT_EQ(chosen.size(), 10u);
  for (const auto &[offset, times] : chosen) // 1200 each; a standard deviation is 29
    EXPECT_NEAR(times, 1200, 150) << offset;
  uint64_t matching = 0;
  EXPECT_EQ(sample_of(list, "", 100, 1, matching)->size(), 20u);
  EXPECT_TRUE(sample_of(list, "none", 100, 1, matching)->empty());
}

TEST(KeyList, WhatIsNotInAnotherListIsCountedWithFewOfThemInMemory) {
  std::string here = line_of("other"), there = line_of("there");
  for (unsigned i = 0; i < 20; i++) {
    here += line_of("key" + std::to_string(i));
    there += i % 4 ? "" : line_of("key" + std::to_string(i));
  }
  const auto list = list_of(here), other = list_of(there);
  const auto wanted = [](const std::string &key) { return key.starts_with("key"); };
  for (const size_t most : {1, 3, 20, 1000}) {
    const auto absent = count_absent(list, other, wanted, most);
    ASSERT_TRUE(absent);
    EXPECT_EQ(*absent, 15u) << most;
  }
  EXPECT_EQ(*count_absent(list_of(""), other, wanted), 0u);
  EXPECT_FALSE(count_absent(list, {}, wanted));
}

TEST(KeyList, KeysAreWrittenAsInADump) {
  EXPECT_EQ(key_text("a-Z_0.9~"), "a-Z_0.9~");
  EXPECT_EQ(key_text(std::string("\0 :%\xff", 5)), "%00%20%3A%25%FF");
}

TEST(Batch, BeginsSmallAndIsBoundedInKeysAndBytes) {
  Batch batch;
  size_t expected = Batch::kFirstKeys;
  for (unsigned round = 0; round < 12; round++) {
    size_t taken = 0;
    while (batch.add("k", 1))
      taken++;
    EXPECT_EQ(taken, expected);
    EXPECT_EQ(batch.keys().size(), expected);
    batch.clear();
    expected = std::min(2 * expected, Batch::kMostKeys);
  }
  EXPECT_TRUE(batch.add("large", 2 * Batch::kMostBytes)); // else it would never be read
  EXPECT_FALSE(batch.add("small", 1));
  batch.clear();
  EXPECT_TRUE(batch.add("half", Batch::kMostBytes / 2));
  EXPECT_TRUE(batch.add("half", Batch::kMostBytes / 2));
  EXPECT_FALSE(batch.add("small", 1));
  Batch slow(1);
  EXPECT_TRUE(slow.add("a", 1));
  EXPECT_FALSE(slow.add("b", 1));
}

TEST(Pace, ASlowWalkHasSmallBatches) {
  EXPECT_EQ(Pace(0).most_keys(), Batch::kMostKeys);
  EXPECT_EQ(Pace(1).most_keys(), 1u);
  EXPECT_EQ(Pace(5000).most_keys(), 500u);
  EXPECT_EQ(Pace(1'000'000).most_keys(), Batch::kMostKeys);
}

Print print(const std::string &line, const std::string &value) {
  Seen seen;
  seen.state = Seen::State::present;
  seen.meta = memcached::parse_meta(line);
  seen.value = value;
  static const uint64_t asked_ns = doppel::monotonic_ns(); // both at once
  return print_of(seen, asked_ns);
}

TEST(Compare, WhatASlowWayExplainsIsNoDifference) {
  const Print source = print("VA 1 t100", "a");
  Print target = print("VA 1 t95", "a");
  EXPECT_EQ(compare(source, target), Difference::ttl);
  target.answered_ns += 4'000'000'000;
  EXPECT_EQ(compare(source, target), Difference::none);
}

TEST(Compare, TheGravestDifferenceCounts) {
  const Print absent;
  Print unreadable;
  unreadable.state = Seen::State::unreadable;
  const Print source = print("VA 1 f1 t100 c5", "a");
  const auto with = [&](const char *line, const char *value) {
    return compare(source, print(line, value));
  };
  EXPECT_EQ(with("VA 1 f1 t100 c9", "a"), Difference::none); // CAS are each server's own
  EXPECT_EQ(with("VA 1 f2 t50", "b"), Difference::different);
  EXPECT_EQ(with("VA 2 f1 t100", "ab"), Difference::different);
  EXPECT_EQ(with("VA 1 f2 t50", "a"), Difference::flags);
  EXPECT_EQ(with("VA 1 f4294967297 t50", "a"), Difference::flags) << "of 64 bits";
  EXPECT_EQ(with("VA 1 f1 t102", "a"), Difference::none);
  EXPECT_EQ(with("VA 1 f1 t98", "a"), Difference::none);
  EXPECT_EQ(with("VA 1 f1 t103", "a"), Difference::ttl);
  EXPECT_EQ(with("VA 1 f1 t97", "a"), Difference::ttl);
  EXPECT_EQ(with("VA 1 f1 t-1", "a"), Difference::ttl);
  EXPECT_EQ(with("VA 1 f1 t100 X", "a"), Difference::different);
  EXPECT_EQ(compare(source, absent), Difference::missing);
  EXPECT_EQ(compare(absent, source), Difference::extra);
  EXPECT_EQ(compare(absent, absent), Difference::absent);
  EXPECT_EQ(compare(unreadable, absent), Difference::unreadable);
  EXPECT_EQ(compare(source, unreadable), Difference::unreadable);
  // -1 is no second less than 0.
  EXPECT_EQ(compare(print("VA 1 t1", "a"), print("VA 1 t-1", "a")), Difference::ttl);
  for (const char *flag : {"W", "X", "X Z"})
    EXPECT_EQ(compare(print(std::string("VA 1 ") + flag, "a"), absent), Difference::stale) << flag;
}

// By `mg` with R a client renews what the others use still, and with N it fills what they miss.
TEST(Compare, WhatAClientRenewsIsThereAndWhatItFillsIsNot) {
  const Print absent;
  EXPECT_EQ(compare(print("VA 1 t20 Z", "a"), absent), Difference::missing);
  EXPECT_EQ(compare(print("VA 1 t20 Z", "a"), print("VA 1 t20", "a")), Difference::none);
  EXPECT_EQ(compare(print("VA 0 t20 Z", ""), absent), Difference::absent);
  EXPECT_EQ(compare(print("VA 0 t20 Z", ""), print("VA 1 t20", "a")), Difference::extra);
  EXPECT_EQ(compare(print("VA 1 t20", "a"), print("VA 0 t20 Z", "")), Difference::missing);
  EXPECT_EQ(compare(print("VA 0 t20", ""), absent), Difference::missing) << "just an empty value";
}

TEST(Compare, ASourceThatMovedIsNotJudged) {
  const Print before = print("VA 1 f1 t100 c5", "a");
  EXPECT_TRUE(is_unmoved(before, print("VA 1 f1 t98 c5", "a")));
  EXPECT_FALSE(is_unmoved(before, print("VA 1 f1 t98 c6", "a")));  // stored again
  EXPECT_FALSE(is_unmoved(before, print("VA 1 f1 t200 c5", "a"))); // touched
  EXPECT_FALSE(is_unmoved(before, print("VA 1 f1 t-1 c5", "a")));
  EXPECT_FALSE(is_unmoved(before, print("VA 1 f2 t98 c5", "a")));
  EXPECT_FALSE(is_unmoved(before, print("VA 1 f1 t98 c5", "b"))); // without CAS
  EXPECT_FALSE(is_unmoved(before, {}));
  EXPECT_FALSE(is_unmoved({}, before));
  EXPECT_TRUE(is_unmoved({}, {}));
}

// How likely `good` of `of` are among those that are equal, drawn without putting back.
double hypergeometric(uint64_t good, uint64_t of, uint64_t equal, uint64_t all) {
  if (good > equal || of - good > all - equal)
    return 0;
  const auto ways = [](uint64_t n, uint64_t k) {
    return std::lgamma(n + 1.0) - std::lgamma(k + 1.0) - std::lgamma(n - k + 1.0);
  };
  return std::exp(ways(equal, good) + ways(all - equal, of - good) - ways(all, of));
}

TEST(Verify, WilsonsInterval) {
  // Of Wilson's formula, computed apart: 9 of 10, 0 and 10 of 10, 9970 of 10,000.
  const auto expect = [](uint64_t good, uint64_t of, double low, double high) {
    const Interval i = wilson95(good, of, uint64_t{1} << 40);
    EXPECT_NEAR(i.low, low, 1e-4) << good << " of " << of;
    EXPECT_NEAR(i.high, high, 1e-4) << good << " of " << of;
  };
  expect(9, 10, 0.5958, 0.9821);
  expect(10, 10, 0.7225, 1);
  expect(0, 10, 0, 0.2775);
  expect(9970, 10'000, 0.9957, 0.9979);
  expect(0, 0, 0, 1);
}

TEST(Verify, AnIntervalOfFewKeys) {
  // All were looked at: nothing is left to chance.
  for (const uint64_t of : {1u, 100u, 379u})
    for (const uint64_t good : {uint64_t{0}, of / 2, of}) {
      const Interval i = wilson95(good, of, of);
      EXPECT_EQ(i.low, static_cast<double>(good) / static_cast<double>(of));
      EXPECT_EQ(i.high, i.low);
    }
  // 900 of 1,000: those of 8,991 with putting back, computed apart, to whole keys.
  EXPECT_EQ(wilson95(900, 900, 1000).low, 0.999);
  EXPECT_EQ(wilson95(900, 900, 1000).high, 1);
  EXPECT_EQ(wilson95(450, 900, 1000).low, 0.489);
  EXPECT_EQ(wilson95(450, 900, 1000).high, 0.511);
  // The one that was not looked at may differ, or be equal; no other.
  EXPECT_EQ(wilson95(99, 99, 100).low, 0.99);
  EXPECT_EQ(wilson95(98, 99, 100).low, 0.98);
  EXPECT_EQ(wilson95(98, 99, 100).high, 0.99);
  EXPECT_EQ(wilson95(0, 99, 100).high, 0.01);
}

// What it claims: of all samples of such a population 95 of 100 have an interval that holds its
// share, but for the roundings of a discrete number (Brown, Cai and DasGupta, 2001).
TEST(Verify, AnIntervalOfFewKeysHoldsTheirShare) {
  constexpr uint64_t kAll = 200;
  for (const uint64_t of : {20u, 100u, 180u, 199u})
    for (uint64_t equal = 0; equal <= kAll; equal++) {
      double held = 0;
      for (uint64_t good = 0; good <= of; good++) {
        const double chance = hypergeometric(good, of, equal, kAll);
        const double share = static_cast<double>(equal) / kAll;
        const Interval i = wilson95(good, of, kAll);
        held += i.low <= share + 1e-9 && share - 1e-9 <= i.high ? chance : 0;
      }
      EXPECT_GE(held, 0.9) << of << " of " << kAll << ", of which are equal " << equal;
    }
}

} // namespace
} // namespace doppel::migrate
