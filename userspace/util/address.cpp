// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/address.h"

#include <arpa/inet.h>

#include <algorithm>

#include <cstring>

namespace doppel {
namespace {
const uint8_t *bytes(const Address &a) { return reinterpret_cast<const uint8_t *>(a.raw.w); }

constexpr unsigned kBitsBeforeV4 = 96;

} // namespace

Address Address::v4(uint32_t be32) { return {{{0, 0, htonl(0xffff), be32}}}; }

// IPv4 is ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).
Family Address::family() const {
  if (raw.w[0] == 0 && raw.w[1] == 0 && raw.w[2] == htonl(0xffff))
    return Family::v4;
  return (raw.w[0] | raw.w[1] | raw.w[2] | raw.w[3]) != 0 ? Family::v6 : Family::none;
}

std::string Address::text() const {
  char buf[INET6_ADDRSTRLEN] = "";
  if (is_v4())
    inet_ntop(AF_INET, &raw.w[3], buf, sizeof buf);
  else
    inet_ntop(AF_INET6, raw.w, buf, sizeof buf);
  return buf;
}

bool operator==(const Address &a, const Address &b) {
  return std::memcmp(&a.raw, &b.raw, sizeof a.raw) == 0;
}

std::strong_ordering operator<=>(const Address &a, const Address &b) {
  return std::memcmp(&a.raw, &b.raw, sizeof a.raw) <=> 0;
}

Prefix Prefix::trimmed() const {
  Prefix p = *this;
  const unsigned bits = family == Family::v4 ? 96 + length : length;
  for (unsigned i = 0; i < 4; i++) {
    const unsigned kept = bits <= 32 * i ? 0 : std::min(bits - 32 * i, 32U);
    p.address.raw.w[i] &= kept == 0 ? 0 : htonl(~uint32_t{0} << (32 - kept));
  }
  return p;
}

std::string Prefix::text() const {
  // An IPv4 address is told from others by what stands before its bits.
  const bool whole = length == (family == Family::v4 ? 32U : 128U);
  return address.text() + (whole ? "" : "/" + std::to_string(length));
}

bool Prefix::contains(const Address &a) const {
  if (family == Family::none || a.family() != family)
    return false;
  const unsigned first = family == Family::v4 ? kBitsBeforeV4 : 0;
  for (unsigned i = first; i < first + length; i++)
    if ((bytes(a)[i / 8] ^ bytes(address)[i / 8]) >> (7 - i % 8) & 1)
      return false;
  return true;
}

std::optional<Address> parse_address(const std::string &text) {
  // inet_pton() stops at a NUL, so "10.0.0.1\0x" would pass.
  if (text.find('\0') != std::string::npos)
    return std::nullopt;
  if (in_addr v4{}; inet_pton(AF_INET, text.c_str(), &v4) == 1)
    return Address::v4(v4.s_addr);
  Address a;
  if (inet_pton(AF_INET6, text.c_str(), a.raw.w) == 1)
    return a;
  return std::nullopt;
}

bool is_host_address(const Address &a) {
  if (a.family() == Family::v6)
    return ntohl(a.raw.w[0]) >> 24 != 0xff; // multicast: RFC 4291, 2.7
  const uint32_t v4 = ntohl(a.raw.w[3]);
  return a.is_set() && v4 >> 24 != 0 && v4 >> 28 < 0xe; // RFC 1122, 3.2.1.3; RFC 1112, 4
}

bool is_loopback(const Address &a) {
  if (a.is_v4())
    return ntohl(a.raw.w[3]) >> 24 == 127;
  return a == Address{{{0, 0, 0, htonl(1)}}};
}

bool is_any(const Address &a) { return !a.is_set() || a == Address::v4(INADDR_ANY); }

bool needs_scope(const Address &a) {
  static const Prefix link_local{Family::v6, {{{htonl(0xfe800000), 0, 0, 0}}}, 10};
  return link_local.contains(a);
}

std::string endpoint_text(const Address &a, unsigned port) {
  const std::string host = a.is_v4() ? a.text() : "[" + a.text() + "]";
  return host + ":" + std::to_string(port);
}

} // namespace doppel
