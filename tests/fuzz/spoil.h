// SPDX-License-Identifier: Apache-2.0
// Chance, and frames that nobody would send.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/packet/packet.h"

namespace doppel::fuzz {

// splitmix64
class Dice {
public:
  explicit Dice(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint32_t u32() { return static_cast<uint32_t>(next()); }
  uint8_t u8() { return static_cast<uint8_t>(next()); }
  unsigned below(unsigned n) { return static_cast<unsigned>(next() % n); }
  bool one_in(unsigned n) { return below(n) == 0; }
  template <typename T, size_t N> T of(const T (&list)[N]) { return list[below(N)]; }

private:
  uint64_t state_;
};

// Numbers where arithmetic goes wrong, or any.
uint32_t wild(Dice &d);

packet::Bytes random_bytes(Dice &d, size_t n);

// IPv6 with a chain of extension headers whose lengths need not be true (RFC 8200, 4).
packet::Bytes ipv6_chain(Dice &d, uint16_t sport, uint16_t dport);

// Changes bytes, lengths, options, flags and numbers; leaves an Ethernet header at least. Mostly
// with a right TCP checksum, so that the rest is looked at.
void spoil(Dice &d, packet::Bytes &f);

} // namespace doppel::fuzz
