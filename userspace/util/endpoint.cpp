// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/endpoint.h"

#include "userspace/util/text.h"

namespace doppel {
bool Endpoint::is_set() const { return address.is_set() || port != 0; }

std::string Endpoint::text() const { return is_set() ? endpoint_text(address, port) : ""; }

std::strong_ordering operator<=>(const Endpoint &a, const Endpoint &b) {
  const auto order = a.address <=> b.address;
  return std::is_neq(order) ? order : a.port <=> b.port;
}

bool operator==(const Endpoint &a, const Endpoint &b) { return std::is_eq(a <=> b); }

std::optional<Endpoint> parse_endpoint(const std::string &text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos)
    return std::nullopt;
  std::string host = text.substr(0, colon);
  const bool brackets = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (brackets)
    host = host.substr(1, host.size() - 2);
  const auto address = parse_address(host);
  const auto port = parse_number(text.substr(colon + 1), 65535);
  if (!address || !port || *port == 0 || address->is_v4() == brackets)
    return std::nullopt;
  return Endpoint{*address, static_cast<uint16_t>(*port)};
}

std::optional<Prefix> parse_prefix(const std::string &text) {
  const size_t slash = text.find('/');
  const auto address = parse_address(text.substr(0, slash));
  if (!address)
    return std::nullopt;
  const bool dotted = text.find(':') == std::string::npos;
  const unsigned longest = dotted ? 32 : 128;
  const auto length =
      slash == std::string::npos ? longest : parse_number(text.substr(slash + 1), longest);
  if (!length)
    return std::nullopt;
  if (dotted || !address->is_v4())
    return Prefix{dotted ? Family::v4 : Family::v6, *address, static_cast<unsigned>(*length)};
  if (*length < 96) // ::ffff:0:0/96 is all of IPv4
    return std::nullopt;
  return Prefix{Family::v4, *address, static_cast<unsigned>(*length - 96)};
}

} // namespace doppel
