// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/packet.h"

#include <stdexcept>

#include "tests/packet/checksum.h"

namespace doppel::packet {

namespace {

constexpr uint8_t kTcp = 6, kUdp = 17, kFragment = 44;

void pad4(Bytes &b) {
  while (b.size() % 4)
    put8(b, 0);
}

} // namespace

// Each setter stores one wish; build() alone knows how they go together.
Packet &Packet::mac(const Mac &src, const Mac &dst) {
  src_ = src, dst_ = dst;
  return *this;
}
Packet &Packet::vlan(uint16_t tci, uint16_t tpid) {
  tags_.emplace_back(tpid, tci);
  return *this;
}
Packet &Packet::ethertype(uint16_t type) {
  ethertype_ = type;
  return *this;
}
Packet &Packet::l3(const Bytes &raw) {
  raw_l3_ = raw;
  return *this;
}
Packet &Packet::padding(size_t n) {
  padding_ = n;
  return *this;
}
Packet &Packet::truncate(size_t n) {
  truncate_ = n;
  return *this;
}
Packet &Packet::ip4(Ip4 src, Ip4 dst) {
  v6_ = false, src4_ = src, dst4_ = dst;
  return *this;
}
Packet &Packet::ip6(const Ip6 &src, const Ip6 &dst) {
  v6_ = true, src6_ = src, dst6_ = dst;
  return *this;
}
Packet &Packet::ttl(uint8_t v) {
  ttl_ = v;
  return *this;
}
Packet &Packet::tos(uint8_t v) {
  tos_ = v;
  return *this;
}
Packet &Packet::id(uint16_t v) {
  id_ = v;
  return *this;
}
Packet &Packet::dont_fragment(bool v) {
  df_ = v;
  return *this;
}
Packet &Packet::protocol(uint8_t v) {
  protocol_ = v;
  return *this;
}
Packet &Packet::flow_label(uint32_t v) {
  flow_label_ = v;
  return *this;
}
Packet &Packet::tcp(uint16_t s, uint16_t d) {
  l4_ = L4::tcp, sport_ = s, dport_ = d;
  return *this;
}
Packet &Packet::udp(uint16_t s, uint16_t d) {
  l4_ = L4::udp, sport_ = s, dport_ = d;
  return *this;
}
Packet &Packet::seq(uint32_t v) {
  seq_ = v;
  return *this;
}
Packet &Packet::ack(uint32_t v) {
  ack_ = v, ack_set_ = true;
  return *this;
}
Packet &Packet::ack_number(uint32_t v) {
  ack_ = v;
  return *this;
}
Packet &Packet::flags(unsigned v) {
  flags_ = v;
  return *this;
}
Packet &Packet::window(uint16_t v) {
  window_ = v;
  return *this;
}
Packet &Packet::urgent(uint16_t v) {
  urgent_ = v;
  return *this;
}
Packet &Packet::payload(const Bytes &b) {
  payload_ = b;
  return *this;
}
Packet &Packet::ip_version(uint8_t v) {
  ip_version_ = v;
  return *this;
}
Packet &Packet::ip_header_words(uint8_t v) {
  ip_words_ = v;
  return *this;
}
Packet &Packet::ip_total_length(uint16_t v) {
  ip_length_ = v;
  return *this;
}
Packet &Packet::ip_checksum(uint16_t v) {
  ip_checksum_ = v;
  return *this;
}
Packet &Packet::tcp_header_words(uint8_t v) {
  tcp_words_ = v;
  return *this;
}
Packet &Packet::udp_length(uint16_t v) {
  udp_length_ = v;
  return *this;
}
Packet &Packet::l4_checksum(uint16_t v) {
  l4_checksum_ = v;
  return *this;
}
Packet &Packet::wrong_l4_checksum() {
  checksum_ = Checksum::wrong;
  return *this;
}
Packet &Packet::partial_checksum() {
  checksum_ = Checksum::partial;
  return *this;
}

Packet &Packet::fragment(uint16_t offset_bytes, bool more) {
  if (offset_bytes % 8)
    throw std::invalid_argument("a fragment offset is a multiple of 8");
  frag_offset_ = offset_bytes, mf_ = more, df_ = false, fragmented_ = true;
  return *this;
}

Packet &Packet::extension(uint8_t type, const Bytes &body) {
  Bytes rest;
  const size_t words = (body.size() + 2 + 7) / 8;
  put8(rest, static_cast<unsigned>(words) - 1);
  append(rest, body);
  rest.resize(words * 8 - 1);
  extensions_.emplace_back(type, rest);
  return *this;
}

Packet &Packet::ip_options(const Bytes &raw) {
  ip_options_ = raw;
  pad4(ip_options_);
  return *this;
}

Packet &Packet::options(const std::vector<Bytes> &list) {
  options_.clear();
  for (const Bytes &one : list)
    append(options_, one);
  pad4(options_);
  if (options_.size() > 40)
    throw std::invalid_argument("TCP options take at most 40 bytes");
  return *this;
}

uint8_t Packet::protocol_number() const {
  if (protocol_)
    return *protocol_;
  return l4_ == L4::tcp ? kTcp : l4_ == L4::udp ? kUdp : 0xfd;
}

size_t Packet::l3_offset() const { return 14 + 4 * tags_.size(); }
size_t Packet::l4_offset() const {
  return l3_offset() + (v6_ ? 40 + build_extensions().size() : 20 + ip_options_.size());
}
size_t Packet::l4_header_size() const {
  return l4_ == L4::tcp ? 20 + options_.size() : l4_ == L4::udp ? 8 : 0;
}

Bytes Packet::build_l4() const {
  Bytes b;
  if (l4_ == L4::tcp) {
    put16(b, sport_);
    put16(b, dport_);
    put32(b, seq_);
    put32(b, ack_);
    const unsigned words =
        tcp_words_ ? *tcp_words_ : 5 + static_cast<unsigned>(options_.size()) / 4;
    put8(b, words << 4);
    put8(b, flags_ | (ack_set_ ? unsigned{ACK} : 0u));
    put16(b, window_);
    put16(b, 0);
    put16(b, urgent_);
    append(b, options_);
  } else if (l4_ == L4::udp) {
    put16(b, sport_);
    put16(b, dport_);
    put16(b, udp_length_ ? *udp_length_ : 8 + static_cast<unsigned>(payload_.size()));
    put16(b, 0);
  }
  append(b, payload_);
  if (l4_ == L4::none)
    return b;

  Sum pseudo;
  if (v6_)
    pseudo.pseudo(src6_, dst6_, protocol_number(), b.size());
  else
    pseudo.pseudo(src4_, dst4_, protocol_number(), b.size());
  uint16_t check =
      checksum_ == Checksum::partial ? pseudo.folded() : Sum(pseudo).add(b).complement();
  if (l4_ == L4::udp && check == 0)
    check = 0xffff; // zero means "none" (RFC 768)
  if (checksum_ == Checksum::wrong)
    check ^= 0x5555;
  set16(b, l4_ == L4::tcp ? 16 : 6, l4_checksum_.value_or(check));
  return b;
}

// RFC 8200, 4: each names the type of the next.
Bytes Packet::build_extensions() const {
  Bytes b;
  for (size_t i = 0; i < extensions_.size(); i++) {
    put8(b, i + 1 < extensions_.size() ? extensions_[i + 1].first
            : fragmented_              ? kFragment
                                       : protocol_number());
    append(b, extensions_[i].second);
  }
  if (fragmented_) {
    put8(b, protocol_number());
    put8(b, 0);
    put16(b, frag_offset_ | (mf_ ? 1u : 0u));
    put32(b, id_);
  }
  return b;
}

Bytes Packet::build_ip(const Bytes &l4) const {
  Bytes b;
  if (v6_) {
    const Bytes extensions = build_extensions();
    put32(b, static_cast<uint32_t>(ip_version_.value_or(6)) << 28 |
                 static_cast<uint32_t>(tos_) << 20 | flow_label_);
    put16(b, ip_length_ ? *ip_length_ : static_cast<unsigned>(extensions.size() + l4.size()));
    put8(b, !extensions_.empty() ? extensions_[0].first
            : fragmented_        ? kFragment
                                 : protocol_number());
    put8(b, ttl_);
    b.insert(b.end(), src6_.b.begin(), src6_.b.end());
    b.insert(b.end(), dst6_.b.begin(), dst6_.b.end());
    append(b, extensions);
  } else {
    const unsigned size = 20 + static_cast<unsigned>(ip_options_.size());
    put8(b, static_cast<unsigned>(ip_version_.value_or(4)) << 4 |
                ip_words_.value_or(static_cast<uint8_t>(size / 4)));
    put8(b, tos_);
    put16(b, ip_length_ ? *ip_length_ : size + static_cast<unsigned>(l4.size()));
    put16(b, id_);
    put16(b, (df_ ? 0x4000u : 0) | (mf_ ? 0x2000u : 0) | frag_offset_ / 8u);
    put8(b, ttl_);
    put8(b, protocol_number());
    put16(b, 0);
    put32(b, src4_.host);
    put32(b, dst4_.host);
    append(b, ip_options_);
    set16(b, 10, ip_checksum_.value_or(Sum().add(b).complement()));
  }
  append(b, l4);
  return b;
}

Bytes Packet::build() const {
  Bytes b(dst_.b.begin(), dst_.b.end());
  b.insert(b.end(), src_.b.begin(), src_.b.end());
  for (auto [tpid, tci] : tags_) {
    put16(b, tpid);
    put16(b, tci);
  }
  put16(b, ethertype_.value_or(v6_ ? 0x86dd : 0x0800));
  append(b, raw_l3_ ? *raw_l3_ : build_ip(build_l4()));
  b.resize(b.size() + padding_);
  if (truncate_ && *truncate_ < b.size())
    b.resize(*truncate_);
  return b;
}

} // namespace doppel::packet
