// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/options.h"

#include <gtest/gtest.h>

namespace doppel::packet {
namespace {

Bytes joined(const std::vector<Bytes> &list) {
  Bytes out;
  for (const Bytes &one : list)
    append(out, one);
  return out;
}

TEST(Options, LinuxSyn) {
  // The options of the SYN in vectors.h.
  EXPECT_EQ(to_hex(joined(opt::linux_syn(0x7ffe5af4, 0, 1460, 10))),
            "020405b40402080a7ffe5af4000000000103030a");
  const TcpOptions o = parse_options(from_hex("020405b40402080a7ffe5af4000000000103030a"));
  EXPECT_EQ(o.mss, 1460);
  EXPECT_TRUE(o.sack_ok);
  EXPECT_EQ(o.wscale, 10);
  ASSERT_TRUE(o.timestamps);
  EXPECT_EQ(o.timestamps->first, 0x7ffe5af4u);
  EXPECT_EQ(o.timestamps->second, 0u);
  EXPECT_FALSE(o.broken);
  EXPECT_EQ(o.kinds,
            (std::vector<uint8_t>{opt::kMss, opt::kSackOk, opt::kTimestamps, opt::kWscale}));
}

TEST(Options, SackBlocks) {
  const Bytes raw = opt::sack({{1, 5}, {9, 12}});
  EXPECT_EQ(to_hex(raw), "05120000000100000005000000090000000c");
  EXPECT_EQ(parse_options(raw).sack, (std::vector<std::pair<uint32_t, uint32_t>>{{1, 5}, {9, 12}}));
}

TEST(Options, UnwantedOnesAreSeen) {
  const TcpOptions o = parse_options(joined({opt::md5(), opt::tfo({}), opt::mptcp_capable()}));
  EXPECT_TRUE(o.has(opt::kMd5));
  EXPECT_TRUE(o.has(opt::kTfo));
  EXPECT_TRUE(o.has(opt::kMptcp));
  EXPECT_FALSE(o.has(opt::kAo));
  EXPECT_TRUE(parse_options(opt::ao()).has(opt::kAo));
  EXPECT_EQ(opt::md5().size(), 18u);
  EXPECT_EQ(opt::ao().size(), 16u);
}

TEST(Options, EndHidesTheRest) {
  EXPECT_FALSE(parse_options(joined({opt::end(), opt::mss(1)})).mss);
  EXPECT_TRUE(parse_options(joined({opt::nop(), opt::mss(1)})).mss);
}

TEST(Options, BrokenLengths) {
  EXPECT_TRUE(parse_options({opt::kMss}).broken);
  EXPECT_TRUE(parse_options({opt::kMss, 0}).broken);
  EXPECT_TRUE(parse_options({opt::kMss, 1}).broken);
  EXPECT_TRUE(parse_options({opt::kMss, 4, 5}).broken);
  EXPECT_TRUE(parse_options(opt::lying(99, 40, {1})).broken);
}

TEST(Options, WrongLengthOfAKnownKindIsNoValue) {
  const TcpOptions o =
      parse_options(joined({opt::unknown(opt::kMss, {1}), opt::unknown(opt::kWscale, {1, 2})}));
  EXPECT_FALSE(o.mss);
  EXPECT_FALSE(o.wscale);
  EXPECT_FALSE(o.broken);
}

} // namespace
} // namespace doppel::packet
