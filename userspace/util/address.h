// SPDX-License-Identifier: Apache-2.0
// An IP address as the maps hold it: IPv6, or IPv4 mapped into it.
#pragma once

#include <optional>
#include <string>

#include "doppel/abi.h"

namespace doppel {

// Network order, as in dp_addr. All zero: none.
struct Address {
  dp_addr raw{};
  bool is_set() const;      // not all zero
  bool is_v4() const;       // ::ffff:a.b.c.d (RFC 4291, 2.5.5.2)
  std::string text() const; // "192.168.2.184", IPv6 without brackets
  friend bool operator==(const Address &a, const Address &b);
};

// Dotted quad or IPv6 without brackets; nothing else (no names, no "10.1"). Nothing: not an
// address.
std::optional<Address> parse_address(const std::string &text);

// An address that a single host can have: not unspecified, multicast, reserved or broadcast.
bool is_host_address(const Address &a);

// "192.168.2.184:11211", "[2001:db8::1]:11211". `port` in host order.
std::string endpoint_text(const Address &a, unsigned port);

} // namespace doppel
