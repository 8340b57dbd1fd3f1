// SPDX-License-Identifier: Apache-2.0
// A packet as a chain of wishes. Lengths and checksums are computed unless overridden, so that
// a good packet is short to write and a hostile one says exactly where it lies:
//
//   Packet().ip4("10.0.0.1", "10.0.0.2").tcp(40000,
//   11211).flags(SYN).seq(7).options({opt::mss(1460)})
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "tests/packet/address.h"
#include "tests/packet/bytes.h"
#include "tests/packet/options.h"

namespace doppel::packet {

enum TcpFlag : uint8_t {
  FIN = 0x01,
  SYN = 0x02,
  RST = 0x04,
  PSH = 0x08,
  ACK = 0x10,
  URG = 0x20,
  ECE = 0x40,
  CWR = 0x80,
};

class Packet {
public:
  // Ethernet. Two tags make QinQ; the first is the outer one.
  Packet &mac(const Mac &src, const Mac &dst);
  Packet &vlan(uint16_t tci, uint16_t tpid = 0x8100);
  Packet &ethertype(uint16_t type); // default: what the next layer is
  Packet &l3(const Bytes &raw);     // anything instead of an IP header, e.g. ARP
  Packet &padding(size_t n);        // zeros behind the IP packet, as Ethernet has up to 60 bytes
  Packet &truncate(size_t n);       // cut the finished frame to n bytes

  // IPv4 or IPv6.
  Packet &ip4(Ip4 src, Ip4 dst);
  Packet &ip6(const Ip6 &src, const Ip6 &dst);
  Packet &ttl(uint8_t v); // hop limit
  Packet &tos(uint8_t v); // traffic class; ECN are the low two bits
  Packet &id(uint16_t v);
  Packet &dont_fragment(bool v);
  Packet &fragment(uint16_t offset_bytes, bool more);
  Packet &ip_options(const Bytes &raw); // padded to 4 bytes with zeros
  Packet &protocol(uint8_t v);
  Packet &flow_label(uint32_t v); // IPv6
  // IPv6: one more extension header of that type, behind those before. `body` is what follows its
  // two first bytes, padded to a whole number of 8 bytes. fragment() makes one that is the last.
  Packet &extension(uint8_t type, const Bytes &body);

  // TCP or UDP.
  Packet &tcp(uint16_t sport, uint16_t dport);
  Packet &udp(uint16_t sport, uint16_t dport);
  Packet &seq(uint32_t v);
  Packet &ack(uint32_t v);        // sets the number and the flag
  Packet &ack_number(uint32_t v); // the number alone
  Packet &flags(unsigned v);      // besides ACK set by ack()
  Packet &window(uint16_t v);
  Packet &urgent(uint16_t v);
  Packet &options(const std::vector<Bytes> &list); // joined, padded to 4 bytes with zeros
  Packet &payload(const Bytes &b);
  Packet &payload(std::string_view text) { return payload(bytes(text)); }

  // Lies.
  Packet &ip_version(uint8_t v);
  Packet &ip_header_words(uint8_t v);
  Packet &ip_total_length(uint16_t v);
  Packet &ip_checksum(uint16_t v);
  Packet &tcp_header_words(uint8_t v);
  Packet &udp_length(uint16_t v);
  Packet &l4_checksum(uint16_t v);
  Packet &wrong_l4_checksum(); // the right one, spoilt
  Packet &partial_checksum();  // what CHECKSUM_PARTIAL leaves: pseudo-header sum only

  Bytes build() const;

  // Where the L4 header begins and its checksum lies, for offload descriptions.
  size_t l3_offset() const;
  bool is_ip6() const { return v6_; }
  size_t l4_offset() const;
  size_t l4_header_size() const;

private:
  enum class L4 { none, tcp, udp };
  enum class Checksum { right, wrong, partial };

  Bytes build_l4() const;
  Bytes build_ip(const Bytes &l4) const;
  Bytes build_extensions() const;
  uint8_t protocol_number() const;

  Mac src_{"02:00:00:00:00:01"}, dst_{"02:00:00:00:00:02"};
  std::vector<std::pair<uint16_t, uint16_t>> tags_; // tpid, tci
  std::optional<uint16_t> ethertype_;
  std::optional<Bytes> raw_l3_;
  size_t padding_ = 0;
  std::optional<size_t> truncate_;

  bool v6_ = false;
  Ip4 src4_, dst4_;
  Ip6 src6_, dst6_;
  uint8_t ttl_ = 64, tos_ = 0;
  uint16_t id_ = 0;
  uint32_t flow_label_ = 0;
  bool df_ = true, mf_ = false;
  uint16_t frag_offset_ = 0;
  Bytes ip_options_;
  bool fragmented_ = false;
  std::vector<std::pair<uint8_t, Bytes>> extensions_; // type, and what follows "next header"
  std::optional<uint8_t> protocol_, ip_version_, ip_words_;
  std::optional<uint16_t> ip_length_, ip_checksum_;

  L4 l4_ = L4::none;
  uint16_t sport_ = 0, dport_ = 0, window_ = 65535, urgent_ = 0;
  uint32_t seq_ = 0, ack_ = 0;
  unsigned flags_ = 0;
  bool ack_set_ = false;
  Bytes options_, payload_;
  std::optional<uint8_t> tcp_words_;
  std::optional<uint16_t> udp_length_, l4_checksum_;
  Checksum checksum_ = Checksum::right;
};

} // namespace doppel::packet
