// SPDX-License-Identifier: Apache-2.0
// An IP address as the maps hold it: IPv6, or IPv4 mapped into it.
#pragma once

#include <compare>
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
  friend std::strong_ordering operator<=>(const Address &a, const Address &b);
};

// The addresses of a family that begin with the same bits as `address`.
struct Prefix {
  Family family = Family::none; // none: no address is in it
  Address address;              // of no account where the length is 0
  unsigned length = 0;          // of the family's own bits: up to 32, or 128
  bool contains(const Address &a) const;
  // Its address with zeros behind the bits that count.
  Prefix trimmed() const;
  std::string text() const; // "10.0.0.0/8"; of a single address without its length
};

// Dotted quad or IPv6 without brackets; nothing else (no names, no "10.1"). Nothing: not an
// address.
std::optional<Address> parse_address(const std::string &text);

// An address that a single host can have: not unspecified, multicast, reserved or broadcast.
bool is_host_address(const Address &a);

// 127.0.0.0/8 or ::1: a host's own, whichever host it is.
bool is_loopback(const Address &a);

// 0.0.0.0 or ::, at which a socket listens on every address of its host.
bool is_any(const Address &a);

// fe80::/10: many links may have it at once, and only a device besides makes it one host's
// (RFC 4007, 6).
bool needs_scope(const Address &a);

// "192.168.2.184:11211", "[2001:db8::1]:11211". `port` in host order.
std::string endpoint_text(const Address &a, unsigned port);

} // namespace doppel
