// SPDX-License-Identifier: Apache-2.0
// Byte strings and network byte order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace doppel::packet {

using Bytes = std::vector<uint8_t>;

inline void put8(Bytes &b, unsigned v) { b.push_back(static_cast<uint8_t>(v)); }

inline void put16(Bytes &b, unsigned v) {
  put8(b, v >> 8);
  put8(b, v);
}

inline void put32(Bytes &b, uint32_t v) {
  put16(b, v >> 16);
  put16(b, v & 0xffff);
}

void append(Bytes &b, const Bytes &more);

inline void set16(Bytes &b, size_t at, unsigned v) {
  b.at(at) = static_cast<uint8_t>(v >> 8);
  b.at(at + 1) = static_cast<uint8_t>(v);
}

inline uint16_t get16(const uint8_t *p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }

inline uint32_t get32(const uint8_t *p) {
  return static_cast<uint32_t>(get16(p)) << 16 | get16(p + 2);
}

inline Bytes bytes(std::string_view text) { return Bytes(text.begin(), text.end()); }

// "45 00 00 3c", "4500003c"; spaces are free. Throws std::invalid_argument.
Bytes from_hex(std::string_view text);
std::string to_hex(const Bytes &b);

// Sixteen bytes a line, with offsets; `mark` flags lines that differ from it.
std::string hex_dump(const Bytes &b, const Bytes *mark = nullptr);

} // namespace doppel::packet
