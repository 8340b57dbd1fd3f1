// SPDX-License-Identifier: Apache-2.0
// Addresses as values that can be written as text.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "tests/packet/bytes.h"

namespace doppel::packet {

struct Mac {
  std::array<uint8_t, 6> b{};

  Mac() = default;
  Mac(const char *text); // "02:00:00:00:00:01"; throws std::invalid_argument
  explicit Mac(const uint8_t *raw);
  std::string text() const;
  friend bool operator==(const Mac &, const Mac &) = default;
};

struct Ip4 {
  uint32_t host = 0; // host order

  Ip4() = default;
  Ip4(const char *text);
  explicit Ip4(uint32_t host_order) : host(host_order) {}
  std::string text() const;
  uint32_t network() const;
  friend bool operator==(const Ip4 &, const Ip4 &) = default;
};

struct Ip6 {
  std::array<uint8_t, 16> b{};

  Ip6() = default;
  Ip6(const char *text);
  explicit Ip6(const uint8_t *raw);
  std::string text() const;
  friend bool operator==(const Ip6 &, const Ip6 &) = default;
};

} // namespace doppel::packet
