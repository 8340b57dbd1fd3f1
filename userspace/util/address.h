// SPDX-License-Identifier: Apache-2.0
// An IP address as the maps hold it: IPv6, or IPv4 mapped into it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "doppel/abi.h"

namespace doppel {

enum class Family { none, v4, v6 };

// Network order, as in dp_addr. All zero: none. What asks whether there is an address asks
// is_set(), never for a family.
struct Address {
  dp_addr raw{};
  static Address v4(uint32_t be32); // network order
  bool is_set() const { return family() != Family::none; }
  bool is_v4() const { return family() == Family::v4; }
  Family family() const;
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
