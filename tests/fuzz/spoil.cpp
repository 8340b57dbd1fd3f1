// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/spoil.h"

#include <linux/if_ether.h>

#include <algorithm>

#include "tests/packet/checksum.h"

namespace doppel::fuzz {

using namespace packet;

namespace {

// Makes the TCP checksum right for whatever the frame is, if it is something like that.
void fix_checksum(Bytes &f) {
  if (f.size() < 54)
    return;
  const size_t total = get16(&f[16]);
  if (total < 40 || total + ETH_HLEN > f.size())
    return;
  set16(f, 50, 0);
  Sum sum;
  sum.add(&f[26], 8).add16(6).add16(static_cast<unsigned>(total - 20));
  set16(f, 50, sum.add(&f[34], total - 20).complement());
}

} // namespace

uint32_t wild(Dice &d) {
  static constexpr uint32_t edges[] = {0,          1,          0x7fffffff, 0x80000000, 0x80000001,
                                       0xffffffff, 0xfffffffe, 65535u,     8u << 20,   4u << 20};
  return d.one_in(2) ? d.of(edges) : d.u32();
}

Bytes random_bytes(Dice &d, size_t n) {
  Bytes out(n);
  for (uint8_t &b : out)
    b = d.u8();
  return out;
}

Bytes ipv6_chain(Dice &d, uint16_t sport, uint16_t dport) {
  static constexpr uint8_t kinds[] = {0, 43, 44, 51, 60, 135};
  const Bytes tcp =
      Packet().ip6("fd00::50", "fd00::9").tcp(sport, dport).payload("get k\r\n").build();
  Bytes f(tcp.begin(), tcp.begin() + 54);
  size_t at = 20;
  for (unsigned n = d.below(6); n > 0; n--) {
    f[at] = d.of(kinds);
    at = f.size();
    append(f, random_bytes(d, 8 * (1 + d.below(3))));
    f[at] = 6;
    if (!d.one_in(4))
      f[at + 1] = static_cast<uint8_t>((f.size() - at) / 8 - 1);
  }
  append(f, Bytes(tcp.begin() + 54, tcp.end()));
  return f;
}

void spoil(Dice &d, Bytes &f) {
  for (unsigned n = 1 + d.below(3); n > 0; n--) {
    switch (d.below(12)) {
    case 0:
      f[d.below(static_cast<unsigned>(std::min<size_t>(f.size(), 80)))] = d.u8();
      break;
    case 1:
      f.resize(14 + d.below(static_cast<unsigned>(f.size())));
      break;
    case 2:
      append(f, random_bytes(d, d.below(64)));
      break;
    case 3:
      if (f.size() > 18)
        set16(f, 16,
              d.one_in(2) ? wild(d) & 0xffff
                          : static_cast<unsigned>(f.size()) - 14 + d.below(5) - 2);
      break;
    case 4:
      if (f.size() > 14)
        f[14] = static_cast<uint8_t>(0x40 | d.below(16));
      break;
    case 5:
      if (f.size() > 46)
        f[46] = static_cast<uint8_t>(d.below(16) << 4);
      break;
    case 6: // options: kinds and lengths at random
      for (size_t at = 54; f.size() > 54 && at < std::min<size_t>(f.size(), 94); at++)
        if (d.one_in(3))
          f[at] = d.one_in(2) ? static_cast<uint8_t>(d.below(40)) : d.u8();
      break;
    case 7:
      if (f.size() > 22)
        set16(f, 20, d.u32() & 0xffff); // fragments
      break;
    case 8:
      if (f.size() > 42)
        for (size_t i = 0, n = wild(d); i < 4; i++)
          f[38 + i] = static_cast<uint8_t>(n >> 8 * i);
      break;
    case 9:
      if (f.size() > 48)
        f[47] = d.u8();
      break;
    case 10: // overlapping: near where the stream stands
      if (f.size() > 42) {
        const uint32_t seq = get32(&f[38]) + d.below(4000) - 2000;
        set16(f, 38, seq >> 16);
        set16(f, 40, seq & 0xffff);
      }
      break;
    default:
      set16(f, 12, d.of({uint16_t{0x0800}, uint16_t{0x86dd}, uint16_t{0x8100}, uint16_t{0x0806}}));
    }
    if (f.size() < 14)
      f.resize(14);
  }
  if (!d.one_in(3))
    fix_checksum(f);
}

} // namespace doppel::fuzz
