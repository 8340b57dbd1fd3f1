// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/portion.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {
TEST(Portion, ReadsSharesAndFractions) {
  const std::pair<const char *, uint32_t> good[] = {
      {"100%", 1'000'000}, {"1", 1'000'000}, {"1.0", 1'000'000}, {"10%", 100'000},
      {"0.1", 100'000},    {"0.01%", 100},   {"0.0001", 100},    {"33.3333%", 333'333},
      {"012%", 120'000},   {"0.25%", 2'500}};
  for (const auto &[text, sample] : good) {
    const auto read = parse_sample(text);
    ASSERT_TRUE(read) << text;
    EXPECT_EQ(*read, sample) << text;
  }
  for (const char *bad :
       {"", "%", "0", "0%", "0.009%", "0.00009", "101%", "1.1", "-1%", "10 %", "ten", ".5", "5.",
        "5.%", "1e-1", "10%%", "0.00001%", "33.33333%", "99999999999999999999%"})
    EXPECT_FALSE(parse_sample(bad)) << bad;
}

TEST(Portion, TextAndBoundAreReadBack) {
  for (uint32_t sample = 100; sample <= Portion::kAll; sample += 99) {
    EXPECT_EQ(*parse_sample(sample_text(sample)), sample);
    EXPECT_EQ(sample_of_bound(sample_bound(sample)), sample);
  }
  EXPECT_EQ(sample_text(100'000), "10%");
  EXPECT_EQ(sample_text(2'500), "0.25%");
  EXPECT_EQ(sample_bound(500'000), 1U << 31);
  EXPECT_EQ(sample_bound(Portion::kAll), 0U);
  EXPECT_EQ(sample_of_bound(sample_bound(0)), 0U);
  EXPECT_NE(sample_bound(0), 0U) << "that would be all";
}

TEST(Portion, IsToldInWords) {
  EXPECT_EQ(portion_text({}), "all connections");
  EXPECT_EQ(portion_text({100'000, 1}), "10% of the connections");
  EXPECT_EQ(portion_text({100, 64}), "0.01% of the connections, each 64 times");
  EXPECT_EQ(portion_text({Portion::kAll, 8}), "all connections, each 8 times");
  EXPECT_EQ(portion_text({0, 8}), "nothing, as the mapping is a dry run,");
}

} // namespace
} // namespace doppel
