// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/checksum.h"

namespace doppel::packet {

Sum &Sum::add(const uint8_t *p, size_t n) {
  for (size_t i = 0; i < n; i++)
    sum_ += i % 2 ? p[i] : static_cast<unsigned>(p[i]) << 8;
  return *this;
}

Sum &Sum::add16(unsigned v) {
  sum_ += v & 0xffff;
  return *this;
}

Sum &Sum::pseudo(Ip4 src, Ip4 dst, uint8_t protocol, size_t length) {
  return add16(src.host >> 16)
      .add16(src.host)
      .add16(dst.host >> 16)
      .add16(dst.host)
      .add16(protocol)
      .add16(static_cast<unsigned>(length));
}

Sum &Sum::pseudo(const Ip6 &src, const Ip6 &dst, uint8_t protocol, size_t length) {
  return add(src.b.data(), 16)
      .add(dst.b.data(), 16)
      .add16(protocol)
      .add16(static_cast<unsigned>(length >> 16))
      .add16(static_cast<unsigned>(length));
}

uint16_t Sum::folded() const {
  uint64_t s = sum_;
  while (s >> 16)
    s = (s & 0xffff) + (s >> 16);
  return static_cast<uint16_t>(s);
}

} // namespace doppel::packet
