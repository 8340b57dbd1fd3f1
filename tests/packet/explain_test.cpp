// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/explain.h"

#include <gtest/gtest.h>

#include "tests/packet/packet.h"
#include "tests/packet/vectors.h"

namespace doppel::packet {
namespace {

TEST(Explain, Summary) {
  EXPECT_EQ(summary(parse(from_hex(vectors::kSyn))),
            "10.0.0.1:43700 > 10.0.0.2:11211 S seq 615872751 ack 0 win 64240 "
            "<mss 1460,wscale 10,sack_ok yes,tsval 2147375860,tsecr 0,> 0 B");
}

TEST(Explain, ScapyOfAWellFormedFrame) {
  EXPECT_EQ(
      scapy(parse(from_hex(vectors::kSet))),
      "Ether(src='02:00:00:00:00:0a', dst='02:00:00:00:00:0b')"
      "/IP(src='10.0.0.1', dst='10.0.0.2', ttl=64, tos=0x0, id=29077, flags=2, frag=0, proto=6)"
      "/TCP(sport=43700, dport=11211, seq=615872752, ack=2397911115, flags='PA', window=63, "
      "urgptr=0, options=[('NOP', None), ('NOP', None), ('Timestamp', (2147375860, 396469202))])"
      "/Raw(bytes.fromhex('736574206b2030203020330d0a6162630d0a'))");
}

TEST(Explain, ScapyOfAHostileFrameIsItsBytes) {
  const Bytes b = Packet().ip4("10.0.0.1", "10.0.0.2").tcp(1, 2).ip_total_length(7).build();
  EXPECT_EQ(scapy(parse(b)), "Ether(bytes.fromhex('" + to_hex(b) + "'))");
}

TEST(Explain, NoDifference) {
  const View v = parse(from_hex(vectors::kSet));
  EXPECT_EQ(diff(v, v), "");
}

TEST(Explain, DifferenceNamesTheFieldAndBothPackets) {
  const Packet p = Packet().ip4("10.0.0.1", "10.0.0.2").tcp(1, 2).seq(5).payload("abc");
  const View a = parse(p.build());
  const View b = parse(Packet(p).seq(6).ttl(63).build());
  const std::string text = diff(a, b);
  EXPECT_NE(text.find("tcp.seq: expected 5, got 6"), std::string::npos) << text;
  EXPECT_NE(text.find("ip.ttl: expected 64, got 63"), std::string::npos) << text;
  EXPECT_EQ(text.find("tcp.ack:"), std::string::npos) << text;
  EXPECT_NE(text.find("seq=5"), std::string::npos) << text;
  EXPECT_NE(text.find("seq=6"), std::string::npos) << text;
  EXPECT_EQ(diff(a, b, {"tcp.seq", "ip.ttl"}), "");
}

TEST(Explain, AbsentOptionsAndFaultsDiffer) {
  const Packet p = Packet().ip4("10.0.0.1", "10.0.0.2").tcp(1, 2);
  const View a = parse(Packet(p).options({opt::mss(1400)}).build());
  const View b = parse(Packet(p).wrong_l4_checksum().build());
  const std::string text = diff(a, b);
  EXPECT_NE(text.find("opt.mss: expected 1400, got (absent)"), std::string::npos) << text;
  EXPECT_NE(text.find("fault: expected (absent)"), std::string::npos) << text;
}

} // namespace
} // namespace doppel::packet
