// SPDX-License-Identifier: Apache-2.0
// A received frame, taken apart and checked. Parsing never throws: what is wrong is in `faults`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/packet/address.h"
#include "tests/packet/bytes.h"
#include "tests/packet/options.h"

namespace doppel::packet {

// What the receiver knows about the checksum of L4 besides the bytes.
enum class ChecksumState {
  complete, // the field is the checksum
  partial,  // CHECKSUM_PARTIAL: the field is the pseudo-header's sum, a device would finish it
};

struct View {
  Bytes frame;

  Mac src, dst;
  std::vector<uint16_t> vlan; // TCIs, the outer one first
  uint16_t ethertype = 0;

  bool is_ip4 = false, is_ip6 = false, is_tcp = false, is_udp = false;
  Ip4 ip_src, ip_dst;
  Ip6 ip6_src, ip6_dst;
  uint8_t tos = 0, ttl = 0, protocol = 0;
  uint16_t id = 0, total_length = 0, frag_offset = 0;
  uint32_t flow_label = 0;
  bool df = false, mf = false;
  Bytes ip_options; // IPv6: the extension headers

  uint16_t sport = 0, dport = 0;
  uint32_t seq = 0, ack = 0;
  uint8_t flags = 0;
  uint16_t window = 0, urgent = 0, l4_check = 0;
  Bytes raw_options;
  TcpOptions options;
  Bytes payload;
  size_t trailing = 0; // bytes behind the IP packet

  std::vector<std::string> faults;

  bool has(unsigned f) const { return (flags & f) == f; }
  std::string text() const { return {payload.begin(), payload.end()}; }
  // Sequence space that the segment takes: payload, SYN and FIN.
  uint32_t seq_length() const;
};

View parse(const Bytes &frame, ChecksumState state = ChecksumState::complete);

} // namespace doppel::packet
