// SPDX-License-Identifier: Apache-2.0
// The Internet checksum (RFC 1071), written for clarity: it judges the fast code.
#pragma once

#include <cstdint>

#include "tests/packet/address.h"
#include "tests/packet/bytes.h"

namespace doppel::packet {

class Sum {
public:
  Sum &add(const Bytes &b) { return add(b.data(), b.size()); }
  Sum &add(const uint8_t *p, size_t n); // an odd tail counts as if a zero followed
  Sum &add16(unsigned v);
  Sum &pseudo(Ip4 src, Ip4 dst, uint8_t protocol, size_t length);
  Sum &pseudo(const Ip6 &src, const Ip6 &dst, uint8_t protocol, size_t length);

  uint16_t folded() const; // what CHECKSUM_PARTIAL leaves in the field
  uint16_t complement() const { return static_cast<uint16_t>(~folded()); }

private:
  uint64_t sum_ = 0;
};

} // namespace doppel::packet
