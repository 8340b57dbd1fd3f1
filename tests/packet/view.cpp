// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/view.h"

#include <cstdio>

#include "tests/packet/checksum.h"
#include "tests/packet/packet.h"

namespace doppel::packet {

namespace {

std::string expected_got(const char *what, unsigned expected, unsigned got) {
  char out[96];
  std::snprintf(out, sizeof out, "%s is 0x%04x, should be 0x%04x", what, got, expected);
  return out;
}

void check_l4(View &v, const uint8_t *l4, size_t n, size_t field, ChecksumState state) {
  Sum sum;
  if (v.is_ip4)
    sum.pseudo(v.ip_src, v.ip_dst, v.protocol, n);
  else
    sum.pseudo(v.ip6_src, v.ip6_dst, v.protocol, n);
  if (state == ChecksumState::partial) {
    if (sum.folded() != v.l4_check)
      v.faults.push_back(
          expected_got("pseudo-header sum in the L4 checksum", sum.folded(), v.l4_check));
    return;
  }
  if (v.is_udp && v.l4_check == 0)
    return;
  Bytes zeroed(l4, l4 + n);
  set16(zeroed, field, 0);
  uint16_t right = sum.add(zeroed).complement();
  if (v.is_udp && right == 0)
    right = 0xffff;
  if (right != v.l4_check)
    v.faults.push_back(expected_got("L4 checksum", right, v.l4_check));
}

void parse_tcp(View &v, const uint8_t *p, size_t n, ChecksumState state) {
  if (n < 20) {
    v.faults.push_back("TCP header cut off");
    return;
  }
  const size_t header = (p[12] >> 4) * 4u;
  v.is_tcp = true;
  v.sport = get16(p);
  v.dport = get16(p + 2);
  v.seq = get32(p + 4);
  v.ack = get32(p + 8);
  v.flags = p[13];
  v.window = get16(p + 14);
  v.l4_check = get16(p + 16);
  v.urgent = get16(p + 18);
  if (header < 20 || header > n) {
    v.faults.push_back("TCP data offset lies");
    return;
  }
  v.raw_options.assign(p + 20, p + header);
  v.options = parse_options(v.raw_options);
  v.payload.assign(p + header, p + n);
  check_l4(v, p, n, 16, state);
}

void parse_udp(View &v, const uint8_t *p, size_t n, ChecksumState state) {
  if (n < 8) {
    v.faults.push_back("UDP header cut off");
    return;
  }
  v.is_udp = true;
  v.sport = get16(p);
  v.dport = get16(p + 2);
  v.l4_check = get16(p + 6);
  if (get16(p + 4) != n) {
    v.faults.push_back("UDP length lies");
    return;
  }
  v.payload.assign(p + 8, p + n);
  check_l4(v, p, n, 6, state);
}

void parse_l4(View &v, const uint8_t *p, size_t n, ChecksumState state) {
  if (v.frag_offset || v.mf) {
    v.payload.assign(p, p + n);
  } else if (v.protocol == 6) {
    parse_tcp(v, p, n, state);
  } else if (v.protocol == 17) {
    parse_udp(v, p, n, state);
  }
}

void parse_ip4(View &v, const uint8_t *p, size_t n, ChecksumState state) {
  if (n < 20 || p[0] >> 4 != 4) {
    v.faults.push_back("not an IPv4 header");
    return;
  }
  const size_t header = (p[0] & 15) * 4u;
  v.is_ip4 = true;
  v.tos = p[1];
  v.total_length = get16(p + 2);
  v.id = get16(p + 4);
  v.df = p[6] & 0x40;
  v.mf = p[6] & 0x20;
  v.frag_offset = static_cast<uint16_t>((get16(p + 6) & 0x1fff) * 8);
  v.ttl = p[8];
  v.protocol = p[9];
  v.ip_src = Ip4(get32(p + 12));
  v.ip_dst = Ip4(get32(p + 16));
  if (header < 20 || header > n || v.total_length < header || v.total_length > n) {
    v.faults.push_back("IPv4 lengths lie");
    return;
  }
  v.ip_options.assign(p + 20, p + header);
  v.trailing = n - v.total_length;
  Bytes zeroed(p, p + header);
  set16(zeroed, 10, 0);
  const uint16_t right = Sum().add(zeroed).complement();
  if (right != get16(p + 10))
    v.faults.push_back(expected_got("IPv4 header checksum", right, get16(p + 10)));
  parse_l4(v, p + header, v.total_length - header, state);
}

// Where the header behind the extension headers begins; v.protocol says what it is then.
size_t skip_extensions(View &v, const uint8_t *p, size_t end) {
  size_t at = 40;
  while ((v.protocol == 0 || v.protocol == 43 || v.protocol == 44 || v.protocol == 60) &&
         at + 8 <= end) {
    const size_t size = v.protocol == 44 ? 8 : (p[at + 1] + 1u) * 8;
    if (v.protocol == 44) {
      v.frag_offset = get16(p + at + 2) & 0xfff8;
      v.mf = p[at + 3] & 1;
    }
    v.protocol = p[at];
    at += size;
  }
  if (at > end)
    v.faults.push_back("IPv6 extension headers are cut off");
  else
    v.ip_options.assign(p + 40, p + at);
  return at;
}

void parse_ip6(View &v, const uint8_t *p, size_t n, ChecksumState state) {
  if (n < 40 || p[0] >> 4 != 6) {
    v.faults.push_back("not an IPv6 header");
    return;
  }
  v.is_ip6 = true;
  v.tos = static_cast<uint8_t>(get16(p) >> 4);
  v.flow_label = get32(p) & 0xfffff;
  v.total_length = static_cast<uint16_t>(get16(p + 4) + 40);
  v.protocol = p[6];
  v.ttl = p[7];
  v.ip6_src = Ip6(p + 8);
  v.ip6_dst = Ip6(p + 24);
  if (get16(p + 4) + 40u > n) {
    v.faults.push_back("IPv6 payload length lies");
    return;
  }
  v.trailing = n - 40 - get16(p + 4);
  const size_t end = 40u + get16(p + 4), at = skip_extensions(v, p, end);
  if (at <= end)
    parse_l4(v, p + at, end - at, state);
}

} // namespace

uint32_t View::seq_length() const {
  return static_cast<uint32_t>(payload.size()) + (has(SYN) ? 1 : 0) + (has(FIN) ? 1 : 0);
}

View parse(const Bytes &frame, ChecksumState state) {
  View v;
  v.frame = frame;
  if (frame.size() < 14) {
    v.faults.push_back("Ethernet header cut off");
    return v;
  }
  v.dst = Mac(frame.data());
  v.src = Mac(frame.data() + 6);
  size_t at = 12;
  while ((get16(&frame[at]) == 0x8100 || get16(&frame[at]) == 0x88a8) && at + 6 <= frame.size()) {
    v.vlan.push_back(get16(&frame[at + 2]));
    at += 4;
  }
  v.ethertype = get16(&frame[at]);
  at += 2;
  if (v.ethertype == 0x0800)
    parse_ip4(v, frame.data() + at, frame.size() - at, state);
  if (v.ethertype == 0x86dd)
    parse_ip6(v, frame.data() + at, frame.size() - at, state);
  return v;
}

} // namespace doppel::packet
