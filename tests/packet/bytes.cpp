// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/bytes.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <stdexcept>

namespace doppel::packet {

namespace {

unsigned nibble(char c) {
  if (c >= '0' && c <= '9')
    return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f')
    return static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F')
    return static_cast<unsigned>(c - 'A' + 10);
  throw std::invalid_argument(std::string("not a hexadecimal digit: ") + c);
}

} // namespace

void append(Bytes &b, const Bytes &more) { b.insert(b.end(), more.begin(), more.end()); }

Bytes from_hex(std::string_view text) {
  Bytes out;
  int high = -1;
  for (char c : text) {
    if (std::isspace(static_cast<unsigned char>(c)))
      continue;
    if (high < 0) {
      high = static_cast<int>(nibble(c));
    } else {
      put8(out, static_cast<unsigned>(high) << 4 | nibble(c));
      high = -1;
    }
  }
  if (high >= 0)
    throw std::invalid_argument("odd number of hexadecimal digits");
  return out;
}

std::string to_hex(const Bytes &b) {
  static const char digits[] = "0123456789abcdef";
  std::string out;
  for (uint8_t v : b) {
    out += digits[v >> 4];
    out += digits[v & 15];
  }
  return out;
}

std::string hex_dump(const Bytes &b, const Bytes *mark) {
  std::string out;
  for (size_t line = 0; line < b.size(); line += 16) {
    const size_t end = std::min(line + 16, b.size());
    char text[24];
    std::snprintf(text, sizeof text, "  %04zx ", line);
    out += text;
    bool differs = false;
    for (size_t i = line; i < end; i++) {
      std::snprintf(text, sizeof text, " %02x", b[i]);
      out += text;
      if (mark && (i >= mark->size() || (*mark)[i] != b[i]))
        differs = true;
    }
    out += differs ? "   <\n" : "\n";
  }
  return out;
}

} // namespace doppel::packet
