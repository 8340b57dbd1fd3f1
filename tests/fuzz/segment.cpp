// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/segment.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <iterator>

namespace doppel::fuzz {
namespace {

void put16(uint8_t *p, unsigned v) {
  p[0] = static_cast<uint8_t>(v >> 8);
  p[1] = static_cast<uint8_t>(v);
}

} // namespace

uint8_t content(uint32_t seq) {
  // What follows "ms" is its value.
  static constexpr const char *patterns[] = {
      "get ..........\r\n", "incr ....... 1\r\n", "ms ........ 14\r\n", "get ..........\r\n",
      "gat 1 ... ....\r\n", "delete .......\r\n", "mg ........ T0\r\n"};
  const unsigned i = seq % 16;
  const char c = patterns[seq / 16 % std::size(patterns)][i];
  return static_cast<uint8_t>(c == '.' ? 'a' + (seq / 16 * 7 + i) % 26 : c);
}

void put32(uint8_t *p, uint32_t v) {
  put16(p, v >> 16);
  put16(p + 2, v & 0xffff);
}
uint16_t get16(const uint8_t *p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
uint32_t get32(const uint8_t *p) { return static_cast<uint32_t>(get16(p)) << 16 | get16(p + 2); }

uint16_t checksum(const uint8_t *p, size_t n, uint32_t sum) {
  for (size_t i = 0; i + 1 < n; i += 2)
    sum += get16(p + i);
  if (n % 2)
    sum += static_cast<uint32_t>(p[n - 1]) << 8;
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

uint16_t pseudo(const uint8_t *ip, size_t length) {
  return checksum(ip + 12, 8, static_cast<uint32_t>(6 + length % 65536 + length / 65536));
}

Skb frame(const Segment &s) {
  Skb skb;
  std::vector<uint8_t> options = s.options;
  options.resize((options.size() + 3) / 4 * 4);
  if (options.size() > 40)
    options.resize(40);
  const size_t payload = s.text.empty() ? s.length : s.text.size(), head = 54 + options.size();
  skb.data.resize(head + payload);
  uint8_t *f = skb.data.data(), *ip = f + 14, *tcp = f + 34;
  std::memcpy(f, "\x02\0\0\0\0\x01\x02\0\0\0\0\xc1\x08\0", 14);
  ip[0] = 0x45;
  put16(ip + 2, static_cast<unsigned>(skb.data.size() - 14)); // 0 beyond 64 KB: BIG TCP
  if (skb.data.size() - 14 > 65535)
    put16(ip + 2, 0);
  put16(ip + 6, 0x4000);
  ip[8] = s.ttl;
  ip[9] = 6;
  put32(ip + 12, s.src);
  put32(ip + 16, s.dst);
  put16(ip + 10, ~checksum(ip, 20) & 0xffff);
  put16(tcp, s.sport);
  put16(tcp + 2, s.dport);
  put32(tcp + 4, s.seq);
  put32(tcp + 8, s.ack);
  tcp[12] = static_cast<uint8_t>((5 + options.size() / 4) << 4);
  tcp[13] = s.flags;
  put16(tcp + 14, s.window);
  std::copy(options.begin(), options.end(), tcp + 20);
  for (size_t i = 0; i < payload; i++)
    f[head + i] = s.forged         ? forgery(s.seq + static_cast<uint32_t>(i))
                  : s.text.empty() ? content(s.seq + static_cast<uint32_t>(i))
                                   : static_cast<uint8_t>(s.text[i]);
  const uint16_t p = pseudo(ip, skb.data.size() - 34);
  skb.summed = s.summed;
  put16(tcp + 16,
        s.summed == Summed::partial ? p : ~checksum(tcp, skb.data.size() - 34, p) & 0xffff);
  if (s.gso_size && payload > s.gso_size) {
    skb.ctx.gso_size = s.gso_size;
    skb.ctx.gso_segs = static_cast<uint32_t>((payload + s.gso_size - 1) / s.gso_size);
  }
  skb.ctx.mark = 0xfeed0001;
  skb.ctx.priority = 5;
  skb.ctx.ifindex = skb.ctx.ingress_ifindex = HOST_DEVICE;
  for (uint32_t i = 0; i < 5; i++)
    skb.ctx.cb[i] = 0xcb000000 + i;
  describe(skb);
  return skb;
}

dp_addr wide(uint32_t a) { return {{htonl(0xfd090000), 0, 0, htonl(a)}}; }

namespace {

constexpr size_t kMore = 20; // bytes that the header of IPv6 is longer

void put_wide(uint8_t *p, const uint8_t *address) {
  const dp_addr a = wide(get32(address));
  std::memcpy(p, &a, sizeof a);
}

uint16_t pseudo6(const uint8_t *ip, size_t length) {
  return checksum(ip + 8, 32, static_cast<uint32_t>(6 + length % 65536 + length / 65536));
}

} // namespace

size_t tcp_at(const Skb &skb) {
  return skb.data.size() > 14 && get16(&skb.data[12]) == 0x86dd ? 34 + kMore : 34;
}

Skb widened(const Skb &skb) {
  Skb out = skb;
  const uint8_t *old = &skb.data[14];
  const size_t length = skb.data.size() - 34;
  out.data.insert(out.data.begin() + 14, kMore, 0);
  uint8_t *ip = &out.data[14], *tcp = &out.data[34 + kMore];
  put16(ip - 2, 0x86dd);
  ip[0] = 0x60;
  put16(ip + 4, length > 65535 ? 0 : static_cast<unsigned>(length)); // BIG TCP
  ip[6] = 6;
  ip[7] = old[8];
  put_wide(ip + 8, old + 12);
  put_wide(ip + 24, old + 16);
  put16(tcp + 16, 0);
  const uint16_t p = pseudo6(ip, length);
  put16(tcp + 16, skb.summed == Summed::partial ? p : ~checksum(tcp, length, p) & 0xffff);
  describe(out);
  return out;
}

Layers layers(const std::vector<uint8_t> &f) {
  Layers l;
  l.six = f.size() > 14 && f[14] == 0x60;
  l.tcp = l.six ? 34 + kMore : 34;
  require(f.size() >= l.tcp + 20 && (l.six ? f[20] == 6 : f[14] == 0x45),
          "a frame is sent that is no TCP");
  const uint8_t *ip = &f[14];
  const size_t length = f.size() - l.tcp;
  if (!l.six) {
    require(f.size() - 14 > 65535 || get16(ip + 2) == f.size() - 14,
            "the total length of what is sent");
    require(checksum(ip, 20) == 0xffff, "the IP checksum of what is sent");
    l.src = get32(ip + 12);
    l.dst = get32(ip + 16);
    l.pseudo = pseudo(ip, length);
    return l;
  }
  require(length > 65535 || get16(ip + 4) == length, "the payload length of what is sent");
  require(!get32(ip + 12) && !get32(ip + 16) && get32(ip + 8) == 0xfd090000 && !get32(ip + 28) &&
              !get32(ip + 32) && get32(ip + 24) == 0xfd090000,
          "an address that nobody has is sent");
  l.src = get32(ip + 20);
  l.dst = get32(ip + 36);
  l.pseudo = pseudo6(ip, length);
  return l;
}

dp_addr mapped(uint32_t a) { return {{0, 0, htonl(0xffff), htonl(a)}}; }

std::vector<uint8_t> timestamp(uint32_t val, uint32_t ecr) {
  std::vector<uint8_t> o = {1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0};
  put32(&o[4], val);
  put32(&o[8], ecr);
  return o;
}

} // namespace doppel::fuzz
