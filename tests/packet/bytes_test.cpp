// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/packet/address.h"
#include "tests/packet/bytes.h"
#include "tests/packet/checksum.h"

namespace doppel::packet {
namespace {

TEST(Bytes, HexBothWays) {
  EXPECT_EQ(from_hex("45 00\n00Fc"), (Bytes{0x45, 0, 0, 0xfc}));
  EXPECT_EQ(to_hex({0x45, 0, 0xfc}), "4500fc");
  EXPECT_THROW(from_hex("4"), std::invalid_argument);
  EXPECT_THROW(from_hex("4g"), std::invalid_argument);
}

TEST(Bytes, NetworkOrder) {
  Bytes b;
  put16(b, 0x1234);
  put32(b, 0x56789abc);
  EXPECT_EQ(to_hex(b), "123456789abc");
  EXPECT_EQ(get16(b.data()), 0x1234);
  EXPECT_EQ(get32(b.data() + 2), 0x56789abcu);
}

TEST(Bytes, DumpMarksLinesThatDiffer) {
  Bytes a(20, 1), b(20, 1);
  b[17] = 2;
  const std::string dump = hex_dump(a, &b);
  EXPECT_EQ(dump.find('<'), dump.rfind('<'));
  EXPECT_GT(dump.find('<'), dump.find("0010"));
}

TEST(Address, TextBothWays) {
  EXPECT_EQ(Mac("02:00:00:00:0a:ff").text(), "02:00:00:00:0a:ff");
  EXPECT_EQ(Ip4("192.168.2.184").text(), "192.168.2.184");
  EXPECT_EQ(Ip4("192.168.2.184").host, 0xc0a802b8u);
  EXPECT_EQ(Ip6("fd00::1").text(), "fd00::1");
  EXPECT_THROW(Mac("02:00"), std::invalid_argument);
  EXPECT_THROW(Ip4("192.168.2"), std::invalid_argument);
  EXPECT_THROW(Ip6("fd00"), std::invalid_argument);
}

TEST(Checksum, ExampleOfRfc1071) {
  // RFC 1071, section 3: 0001 f203 f4f5 f6f7 sums to ddf2.
  EXPECT_EQ(Sum().add(from_hex("0001f203f4f5f6f7")).folded(), 0xddf2);
}

TEST(Checksum, WellKnownIpHeader) {
  EXPECT_EQ(Sum().add(from_hex("450000730000400040110000c0a80001c0a800c7")).complement(), 0xb861);
  EXPECT_EQ(Sum().add(from_hex("45000073000040004011b861c0a80001c0a800c7")).complement(), 0);
}

TEST(Checksum, OddTailCountsAsHighByte) {
  EXPECT_EQ(Sum().add(Bytes{0x12}).folded(), 0x1200);
  EXPECT_EQ(Sum().add(Bytes{0, 1, 2}).folded(), 0x0201);
}

} // namespace
} // namespace doppel::packet
