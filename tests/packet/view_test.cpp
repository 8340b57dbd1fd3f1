// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/view.h"

#include <gtest/gtest.h>

#include "tests/packet/packet.h"
#include "tests/packet/vectors.h"

namespace doppel::packet {
namespace {

TEST(View, FramesOfLinuxHaveNoFault) {
  for (const char *hex : {vectors::kSyn, vectors::kSynAck, vectors::kSet, vectors::kFin,
                          vectors::kUdp, vectors::kSet6, vectors::kArp})
    EXPECT_TRUE(parse(from_hex(hex)).faults.empty()) << hex;
}

TEST(View, DataSegment) {
  const View v = parse(from_hex(vectors::kSet));
  EXPECT_EQ(v.src, Mac("02:00:00:00:00:0a"));
  EXPECT_EQ(v.dst, Mac("02:00:00:00:00:0b"));
  EXPECT_TRUE(v.is_ip4 && v.is_tcp && !v.is_udp && v.df && !v.mf);
  EXPECT_EQ(v.ip_src, Ip4("10.0.0.1"));
  EXPECT_EQ(v.ip_dst, Ip4("10.0.0.2"));
  EXPECT_EQ(v.id, 0x7195);
  EXPECT_EQ(v.ttl, 64);
  EXPECT_EQ(v.sport, 0xaab4);
  EXPECT_EQ(v.dport, 11211);
  EXPECT_EQ(v.seq, 0x24b578f0u);
  EXPECT_EQ(v.ack, 0x8eed384bu);
  EXPECT_EQ(v.flags, PSH | ACK);
  EXPECT_EQ(v.window, 63);
  EXPECT_EQ(v.text(), "set k 0 0 3\r\nabc\r\n");
  EXPECT_EQ(v.seq_length(), 18u);
  EXPECT_EQ(parse(from_hex(vectors::kFin)).seq_length(), 1u);
  EXPECT_EQ(parse(from_hex(vectors::kSyn)).seq_length(), 1u);
}

TEST(View, EveryFlippedBitOfASegmentIsNoticed) {
  const Bytes good = from_hex(vectors::kSet);
  for (size_t i = 14; i < good.size(); i++) {
    Bytes bad = good;
    bad[i] ^= 0x10;
    EXPECT_FALSE(parse(bad).faults.empty()) << "byte " << i;
  }
}

TEST(View, UdpAndIp6) {
  const View u = parse(from_hex(vectors::kUdp));
  EXPECT_TRUE(u.is_udp);
  EXPECT_EQ(u.payload.size(), 15u);
  const View v = parse(from_hex(vectors::kSet6));
  EXPECT_TRUE(v.is_ip6 && v.is_tcp);
  EXPECT_EQ(v.ip6_dst, Ip6("fd00::2"));
  EXPECT_EQ(v.flow_label, 0xe3487u);
  EXPECT_EQ(v.text(), "set k 0 0 3\r\nabc\r\n");
  Bytes bad = from_hex(vectors::kSet6);
  bad.back() ^= 1;
  EXPECT_FALSE(parse(bad).faults.empty());
}

TEST(View, PartialChecksums) {
  const Bytes b =
      Packet().ip4("10.0.0.1", "10.0.0.2").tcp(1, 2).payload("abc").partial_checksum().build();
  EXPECT_TRUE(parse(b, ChecksumState::partial).faults.empty());
  EXPECT_FALSE(parse(b, ChecksumState::complete).faults.empty());
  EXPECT_FALSE(parse(from_hex(vectors::kSet), ChecksumState::partial).faults.empty());
}

TEST(View, TagsAndPadding) {
  const View v = parse(Packet()
                           .vlan(0x2005, 0x88a8)
                           .vlan(6)
                           .ip4("10.0.0.1", "10.0.0.2")
                           .tcp(1, 2)
                           .padding(6)
                           .build());
  EXPECT_EQ(v.vlan, (std::vector<uint16_t>{0x2005, 6}));
  EXPECT_EQ(v.trailing, 6u);
  EXPECT_TRUE(v.payload.empty());
  EXPECT_TRUE(v.faults.empty());
}

TEST(View, FragmentsHaveNoPorts) {
  const View v = parse(
      Packet().ip4("10.0.0.1", "10.0.0.2").fragment(8, false).protocol(6).payload("tail").build());
  EXPECT_FALSE(v.is_tcp);
  EXPECT_EQ(v.frag_offset, 8);
  EXPECT_EQ(v.text(), "tail");
  EXPECT_TRUE(v.faults.empty());
}

TEST(View, HostileFramesAreFaultsNotCrashes) {
  const Packet good = Packet().ip4("10.0.0.1", "10.0.0.2").tcp(1, 2).payload("abc");
  for (size_t n = 0; n < good.build().size(); n++) {
    const View v = parse(Packet(good).truncate(n).build());
    EXPECT_FALSE(v.faults.empty()) << n << " bytes";
  }
  EXPECT_FALSE(parse(Packet(good).ip_version(6).build()).faults.empty());
  EXPECT_FALSE(parse(Packet(good).ip_header_words(4).build()).faults.empty());
  EXPECT_FALSE(parse(Packet(good).ip_header_words(15).build()).faults.empty());
  EXPECT_FALSE(parse(Packet(good).ip_total_length(200).build()).faults.empty());
  EXPECT_FALSE(parse(Packet(good).ip_total_length(19).build()).faults.empty());
  EXPECT_FALSE(parse(Packet(good).tcp_header_words(4).build()).faults.empty());
  EXPECT_FALSE(parse(Packet(good).tcp_header_words(15).build()).faults.empty());
  EXPECT_FALSE(parse(Packet(good).wrong_l4_checksum().build()).faults.empty());
  EXPECT_FALSE(
      parse(Packet().ip4("10.0.0.1", "10.0.0.2").udp(1, 2).udp_length(40).build()).faults.empty());
}

} // namespace
} // namespace doppel::packet
