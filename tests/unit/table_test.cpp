// SPDX-License-Identifier: Apache-2.0
#include "userspace/view/table.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {
TEST(Table, Aligns) {
  Table t({"NAME", ">N", "LAST"});
  t.row({"a", "1,000", "x"});
  t.row({"longer", "2", ""});
  EXPECT_EQ(t.text(), "NAME        N  LAST\n"
                      "a       1,000  x\n"
                      "longer      2\n");
}

TEST(Table, CountsCharactersNotBytes) {
  Table t({"A", "B"});
  t.row({"\xc3\xa9", "x"});
  EXPECT_EQ(t.text(1), " A  B\n \xc3\xa9  x\n");
}

TEST(Human, Count) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1000), "1,000");
  EXPECT_EQ(human_count(1234567), "1,234,567");
  EXPECT_EQ(human_count(-1234), "-1,234");
  EXPECT_EQ(human_count(-123), "-123");
}

TEST(Human, Bytes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.0 KiB");
  EXPECT_EQ(human_bytes(1535), "1.4 KiB") << "never rounded up";
  EXPECT_EQ(human_bytes((1 << 20) - 1), "1023 KiB");
  EXPECT_EQ(human_bytes(64 << 20), "64.0 MiB");
  EXPECT_EQ(human_bytes(5'000'000'000), "4.6 GiB");
  EXPECT_EQ(human_bytes(-2048), "-2.0 KiB");
}

TEST(Human, Time) {
  EXPECT_EQ(human_ms(0), "0 ms");
  EXPECT_EQ(human_ms(999), "999 ms");
  EXPECT_EQ(human_ms(12'540), "12.5 s");
  EXPECT_EQ(human_ms(303'000), "5m 03s");
  EXPECT_EQ(human_ms(7'500'000), "2h 05m");
  EXPECT_EQ(human_ms(273'600'000), "3d 04h");
}

TEST(Human, ShareIsNeverRoundedUp) {
  EXPECT_EQ(human_share(1), "100.00 %");
  EXPECT_EQ(human_share(0.9999999999), "99.99 %");
  EXPECT_EQ(human_share(0.9999), "99.99 %");
  EXPECT_EQ(human_share(0.5), "50.00 %");
  EXPECT_EQ(human_share(0), "0.00 %");
}

} // namespace
} // namespace doppel
