// SPDX-License-Identifier: Apache-2.0
// Who acts in a play of the session fuzzer, and the frames that they send. Ports, addresses and
// sequence numbers are in host order.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "tests/fuzz/host/kernel.h"

namespace doppel::fuzz {

constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16;
constexpr uint16_t kPort = 11211, kTargetPort = 21211;
constexpr uint32_t kServer = 0x0a090009, kHost = 0x0a090002, kFurther = 0x0a090003,
                   kClient = 0x0a090032;
constexpr uint32_t kTargets[] = {0x0a090007, 0x0a090008};

// The byte of every client's stream at this sequence number: a command of memcached, or a value,
// of 16 bytes at each multiple of 16, different from its neighbours. So every byte that is sent or
// stored can be judged.
uint8_t content(uint32_t seq);
// What a stranger puts there, which is no byte of any client's stream.
inline uint8_t forgery(uint32_t seq) { return content(seq) ^ 0x80; }

void put32(uint8_t *p, uint32_t v);
uint16_t get16(const uint8_t *p);
uint32_t get32(const uint8_t *p);

// RFC 1071, not complemented: 0xffff over what has a right checksum in it.
uint16_t checksum(const uint8_t *p, size_t n, uint32_t sum = 0);
// Sum of the pseudo-header (RFC 9293, 3.1) for `length` bytes of TCP.
uint16_t pseudo(const uint8_t *ip, size_t length);

struct Segment {
  uint32_t src = 0, dst = 0;
  uint16_t sport = 0, dport = 0, window = 500;
  uint32_t seq = 0, ack = 0;
  uint8_t flags = kAck, ttl = 64;
  std::vector<uint8_t> options;
  uint32_t length = 0;   // of the payload, by content()
  std::string_view text; // instead
  bool forged = false;   // a stranger's: its payload is not content(), byte for byte
  uint16_t gso_size = 0;
  Summed summed = Summed::none;
};

Skb frame(const Segment &s);
dp_addr mapped(uint32_t a);
// The address of IPv6 whose last word is that.
dp_addr wide(uint32_t a);
// The frame of IPv4 as one of IPv6, with a right checksum, or one that is still to be made.
Skb widened(const Skb &skb);
// Of a frame that was sent, whose IP header is right. Addresses: the last words.
struct Layers {
  bool six = false;
  size_t tcp = 0; // where its header begins
  uint32_t src = 0, dst = 0;
  uint16_t pseudo = 0; // the sum
};
Layers layers(const std::vector<uint8_t> &frame);
// Where the TCP header begins.
size_t tcp_at(const Skb &skb);
std::vector<uint8_t> timestamp(uint32_t val, uint32_t ecr);

} // namespace doppel::fuzz
