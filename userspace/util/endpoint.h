// SPDX-License-Identifier: Apache-2.0
// An address with a port, and prefixes as they are written.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

#include "userspace/util/address.h"

namespace doppel {

struct Endpoint {
  Address address;
  uint16_t port = 0;        // host order
  bool is_set() const;      // else there is none
  std::string text() const; // as endpoint_text(); empty: there is none
  // By address, then by port, as numbers.
  friend std::strong_ordering operator<=>(const Endpoint &a, const Endpoint &b);
  friend bool operator==(const Endpoint &a, const Endpoint &b);
};

// "192.168.2.184:11211" or "[2001:db8::1]:11211", the port from 1 to 65535. Nothing: it is neither.
std::optional<Endpoint> parse_endpoint(const std::string &text);

// An address alone, "10.0.0.0/8" or "2001:db8::/32", without brackets. What stands behind the
// prefix's bits does not count. Nothing: it is none of them.
std::optional<Prefix> parse_prefix(const std::string &text);

} // namespace doppel
