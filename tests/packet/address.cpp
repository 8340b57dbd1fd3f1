// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>

namespace doppel::packet {

Mac::Mac(const char *text) {
  unsigned v[6];
  char rest;
  if (std::sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5],
                  &rest) != 6)
    throw std::invalid_argument(std::string("not a MAC address: ") + text);
  std::copy(v, v + 6, b.begin());
}

Mac::Mac(const uint8_t *raw) { std::copy(raw, raw + 6, b.begin()); }

std::string Mac::text() const {
  char out[18];
  std::snprintf(out, sizeof out, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4],
                b[5]);
  return out;
}

Ip4::Ip4(const char *text) {
  in_addr a{};
  if (inet_pton(AF_INET, text, &a) != 1)
    throw std::invalid_argument(std::string("not an IPv4 address: ") + text);
  host = ntohl(a.s_addr);
}

std::string Ip4::text() const {
  char out[INET_ADDRSTRLEN];
  const in_addr a{network()};
  return inet_ntop(AF_INET, &a, out, sizeof out);
}

uint32_t Ip4::network() const { return htonl(host); }

Ip6::Ip6(const char *text) {
  if (inet_pton(AF_INET6, text, b.data()) != 1)
    throw std::invalid_argument(std::string("not an IPv6 address: ") + text);
}

Ip6::Ip6(const uint8_t *raw) { std::copy(raw, raw + 16, b.begin()); }

std::string Ip6::text() const {
  char out[INET6_ADDRSTRLEN];
  return inet_ntop(AF_INET6, b.data(), out, sizeof out);
}

} // namespace doppel::packet
