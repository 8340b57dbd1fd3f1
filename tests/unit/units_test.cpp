// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/units.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {
using enum Measure;

TEST(Units, Size) {
  EXPECT_EQ(*parse_measure(bytes, "65536"), 65536u);
  EXPECT_EQ(*parse_measure(bytes, "12B"), 12u);
  EXPECT_EQ(*parse_measure(bytes, "3KiB"), 3072u);
  EXPECT_EQ(*parse_measure(bytes, "64MiB"), 64u << 20);
  EXPECT_EQ(*parse_measure(bytes, "2GiB"), 2ull << 30);
  EXPECT_EQ(*parse_measure(bytes, "17179869183GiB"), 17179869183ull << 30);
  for (const char *bad : {"", "MiB", "64 MiB", "64MB", "64M", "64mib", "1.5MiB", "-1", "0x10", "5s",
                          "17179869184GiB", "99999999999999999999"})
    EXPECT_FALSE(parse_measure(bytes, bad)) << bad;
  const auto bad = parse_measure(bytes, "64 MB");
  EXPECT_EQ(bad.errors()[0].what, "\"64 MB\" is not a size");
  EXPECT_EQ(bad.errors()[0].hint, "write bytes, or a whole number with KiB, MiB or GiB: \"64MiB\"");
}

TEST(Units, Time) {
  EXPECT_EQ(*parse_measure(milliseconds, "250ms"), 250u);
  EXPECT_EQ(*parse_measure(milliseconds, "5s"), 5000u);
  EXPECT_EQ(*parse_measure(milliseconds, "1min"), 60'000u);
  EXPECT_EQ(*parse_measure(seconds, "0s"), 0u);
  EXPECT_EQ(*parse_measure(seconds, "90s"), 90u);
  EXPECT_EQ(*parse_measure(seconds, "2h"), 7200u);
  EXPECT_EQ(*parse_measure(seconds, "365d"), 31'536'000u);
  EXPECT_EQ(*parse_measure(seconds, "2000ms"), 2u);
  EXPECT_EQ(*parse_measure(seconds, "213503982334d"), 213503982334ull * 86400);
  for (Measure m : {milliseconds, seconds})
    for (const char *bad : {"", "s", "5", "0", "5 s", "5S", "5m", "1h30min", "1.5s", "-5s", "5MiB",
                            "213503982335d", "18446744073709551616ms"})
      EXPECT_FALSE(parse_measure(m, bad)) << bad;
  const auto bad = parse_measure(milliseconds, "never");
  EXPECT_EQ(bad.errors()[0].what, "\"never\" is not a time");
  EXPECT_EQ(bad.errors()[0].hint, "write a whole number with ms, s, min, h or d: \"250ms\"");
}

TEST(Units, NothingIsRounded) {
  const auto half = parse_measure(seconds, "1500ms");
  ASSERT_FALSE(half);
  EXPECT_EQ(half.errors()[0].what, "\"1500ms\" is not a whole number of seconds");
  EXPECT_EQ(half.errors()[0].hint, "fractions of a second make no difference here");
}

TEST(Units, Rate) {
  EXPECT_EQ(*parse_measure(bits_per_second, "1000"), 1000u);
  EXPECT_EQ(*parse_measure(bits_per_second, "800bit"), 800u);
  EXPECT_EQ(*parse_measure(bits_per_second, "64kbit"), 64'000u);
  EXPECT_EQ(*parse_measure(bits_per_second, "100Mbit"), 100'000'000u);
  EXPECT_EQ(*parse_measure(bits_per_second, "40Gbit"), 40'000'000'000u);
  EXPECT_EQ(*parse_measure(bits_per_second, "1Tbit"), 1'000'000'000'000u);
  for (const char *bad :
       {"", "Mbit", "1mbit", "1Mb", "1MB", "1 Mbit", "1.5Gbit", "1Mbit/s", "18446745Tbit"})
    EXPECT_FALSE(parse_measure(bits_per_second, bad)) << bad;
  EXPECT_EQ(parse_measure(bits_per_second, "1MB").errors()[0].what, "\"1MB\" is not a rate");
}

TEST(Units, Count) {
  EXPECT_EQ(*parse_measure(count, "18446744073709551615"), UINT64_MAX);
  for (const char *bad : {"", "1k", "-1", "18446744073709551616"})
    EXPECT_FALSE(parse_measure(count, bad)) << bad;
}

TEST(Units, TextIsTheShortestThatIsExact) {
  EXPECT_EQ(measure_text(count, 8), "8");
  EXPECT_EQ(measure_text(count, 0), "0");
  EXPECT_EQ(measure_text(bytes, 64u << 20), "64MiB");
  EXPECT_EQ(measure_text(bytes, 1536), "1536B");
  EXPECT_EQ(measure_text(bytes, 2048ull << 30), "2048GiB");
  EXPECT_EQ(measure_text(milliseconds, 200), "200ms");
  EXPECT_EQ(measure_text(milliseconds, 60'000), "1min");
  EXPECT_EQ(measure_text(milliseconds, 61'000), "61s");
  EXPECT_EQ(measure_text(milliseconds, 0), "0ms");
  EXPECT_EQ(measure_text(seconds, 0), "0s");
  EXPECT_EQ(measure_text(seconds, 7200), "2h");
  EXPECT_EQ(measure_text(seconds, 61), "61s");
  EXPECT_EQ(measure_text(bits_per_second, 1'500'000), "1500kbit");
  EXPECT_EQ(measure_text(bits_per_second, 0), "0bit");
}

TEST(Units, TextIsReadBack) {
  for (Measure m : {count, bytes, milliseconds, seconds, bits_per_second})
    for (uint64_t n : {0ull, 1ull, 59ull, 60ull, 999ull, 1000ull, 1024ull, 3600ull, 86'400'000ull,
                       1ull << 40, 1'000'000'007ull})
      EXPECT_EQ(*parse_measure(m, measure_text(m, n)), n) << measure_text(m, n);
}

} // namespace
} // namespace doppel
