// SPDX-License-Identifier: Apache-2.0
// The builder against frames that Linux made.
#include "tests/packet/packet.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/packet/checksum.h"
#include "tests/packet/vectors.h"

namespace doppel::packet {
namespace {

constexpr char kMacA[] = "02:00:00:00:00:0a", kMacB[] = "02:00:00:00:00:0b";

Packet from_a() { return Packet().mac(kMacA, kMacB).ip4("10.0.0.1", "10.0.0.2"); }

TEST(Packet, SynAsLinuxSendsIt) {
  const Bytes built = from_a()
                          .id(0x7193)
                          .tcp(0xaab4, 11211)
                          .flags(SYN)
                          .seq(0x24b578ef)
                          .window(64240)
                          .options(opt::linux_syn(0x7ffe5af4, 0, 1460, 10))
                          .build();
  EXPECT_EQ(to_hex(built), vectors::kSyn);
}

TEST(Packet, SynAckAsLinuxSendsIt) {
  const Bytes built = Packet()
                          .mac(kMacB, kMacA)
                          .ip4("10.0.0.2", "10.0.0.1")
                          .tcp(11211, 0xaab4)
                          .flags(SYN)
                          .seq(0x8eed384a)
                          .ack(0x24b578f0)
                          .window(0xfe88)
                          .options(opt::linux_syn(0x17a1a3d2, 0x7ffe5af4, 1460, 10))
                          .build();
  EXPECT_EQ(to_hex(built), vectors::kSynAck);
}

TEST(Packet, DataAsLinuxSendsIt) {
  const Bytes built = from_a()
                          .id(0x7195)
                          .tcp(0xaab4, 11211)
                          .flags(PSH)
                          .seq(0x24b578f0)
                          .ack(0x8eed384b)
                          .window(63)
                          .options(opt::linux_data(0x7ffe5af4, 0x17a1a3d2))
                          .payload("set k 0 0 3\r\nabc\r\n")
                          .build();
  EXPECT_EQ(to_hex(built), vectors::kSet);
}

TEST(Packet, UdpAsLinuxSendsIt) {
  const Bytes built = from_a()
                          .id(0xfd69)
                          .udp(0x81ec, 11211)
                          .payload(from_hex("0001000000010000676574206b0d0a"))
                          .build();
  EXPECT_EQ(to_hex(built), vectors::kUdp);
}

TEST(Packet, Ip6AsLinuxSendsIt) {
  const Bytes built = Packet()
                          .mac(kMacA, kMacB)
                          .ip6("fd00::1", "fd00::2")
                          .flow_label(0xe3487)
                          .tcp(0xbd80, 11211)
                          .flags(PSH)
                          .seq(0xff1bc4bd)
                          .ack(0xf857cefc)
                          .window(64)
                          .options(opt::linux_data(0x684cefe5, 0x53f69865))
                          .payload("set k 0 0 3\r\nabc\r\n")
                          .build();
  EXPECT_EQ(to_hex(built), vectors::kSet6);
}

TEST(Packet, ArpIsRawL3) {
  const Bytes built = Packet()
                          .mac(kMacA, "ff:ff:ff:ff:ff:ff")
                          .ethertype(0x0806)
                          .l3(from_hex("000108000604000102000000000a0a0000010000000000000a000002"))
                          .build();
  EXPECT_EQ(to_hex(built), vectors::kArp);
}

TEST(Packet, TagGoesBetweenAddressesAndType) {
  const Bytes plain = from_a().tcp(1, 2).build();
  const Bytes tagged = from_a().tcp(1, 2).vlan(0x6005).build();
  EXPECT_EQ(to_hex(Bytes(tagged.begin() + 12, tagged.begin() + 16)), "81006005");
  EXPECT_EQ(Bytes(tagged.begin() + 16, tagged.end()), Bytes(plain.begin() + 12, plain.end()));
  const Bytes twice = from_a().tcp(1, 2).vlan(7, 0x88a8).vlan(5).build();
  EXPECT_EQ(to_hex(Bytes(twice.begin() + 12, twice.begin() + 20)), "88a8000781000005");
}

TEST(Packet, FragmentFields) {
  const Bytes built = from_a().fragment(1480, true).protocol(6).payload("tail").build();
  EXPECT_EQ(get16(&built[20]), 0x2000 | 185);
  EXPECT_EQ(built[23], 6);
  EXPECT_EQ(get16(&built[16]), 24);
  EXPECT_THROW(from_a().fragment(3, true), std::invalid_argument);
}

TEST(Packet, IpOptionsLengthenTheHeader) {
  const Bytes built = from_a().ip_options({0x94, 4, 0, 0}).tcp(1, 2).build(); // router alert
  EXPECT_EQ(built[14], 0x46);
  EXPECT_EQ(get16(&built[16]), 44);
  EXPECT_EQ(Sum().add(built.data() + 14, 24).complement(), 0);
}

TEST(Packet, LiesAreToldAsAsked) {
  const Bytes b = from_a()
                      .tcp(1, 2)
                      .ip_version(5)
                      .ip_header_words(15)
                      .ip_total_length(9)
                      .ip_checksum(0xbeef)
                      .tcp_header_words(2)
                      .l4_checksum(0xdead)
                      .build();
  EXPECT_EQ(b[14], 0x5f);
  EXPECT_EQ(get16(&b[16]), 9);
  EXPECT_EQ(get16(&b[24]), 0xbeef);
  EXPECT_EQ(b[46] >> 4, 2);
  EXPECT_EQ(get16(&b[50]), 0xdead);
  const Bytes u = from_a().udp(1, 2).udp_length(7).build();
  EXPECT_EQ(get16(&u[38]), 7);
}

TEST(Packet, TruncateAndPad) {
  EXPECT_EQ(from_a().tcp(1, 2).truncate(33).build().size(), 33u);
  EXPECT_EQ(from_a().tcp(1, 2).truncate(3000).build().size(), 54u);
  const Bytes padded = from_a().tcp(1, 2).padding(6).build();
  EXPECT_EQ(padded.size(), 60u);
  EXPECT_EQ(get16(&padded[16]), 40);
}

TEST(Packet, PartialChecksumIsThePseudoHeaderAlone) {
  const Bytes b = from_a().tcp(1, 2).payload("abc").partial_checksum().build();
  EXPECT_EQ(get16(&b[50]), Sum().pseudo(Ip4("10.0.0.1"), Ip4("10.0.0.2"), 6, 23).folded());
}

TEST(Packet, UdpZeroChecksumIsSentAsOnes) {
  // The payload is the complement of the sum of all else, which makes the checksum zero.
  const Bytes first = from_a().udp(1, 2).payload(Bytes{0, 0}).build();
  const Bytes built = from_a().udp(1, 2).payload(Bytes{first[40], first[41]}).build();
  EXPECT_EQ(get16(&built[40]), 0xffff);
}

TEST(Packet, OffsetsForOffloads) {
  const Packet p = from_a().vlan(1).tcp(1, 2).options({opt::mss(1)});
  EXPECT_EQ(p.l3_offset(), 18u);
  EXPECT_EQ(p.l4_offset(), 38u);
  EXPECT_EQ(p.l4_header_size(), 24u);
}

TEST(Packet, TooManyOptions) {
  EXPECT_THROW(Packet().options({opt::md5(), opt::md5(), opt::md5()}), std::invalid_argument);
}

} // namespace
} // namespace doppel::packet
