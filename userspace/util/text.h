// SPDX-License-Identifier: Apache-2.0
// Values that users write as text, and the words nearest to a misspelt one.
#pragma once

#include <charconv>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "userspace/util/error.h"

namespace doppel {

struct PortRange {
  uint16_t first = 0, last = 0; // host order, inclusive
};

// Decimal digits only, up to `max`; nothing else, no sign, no blanks.
std::optional<uint64_t> parse_number(std::string_view text, uint64_t max);

// Decimal digits only, behind a minus where T has a sign, and of the range of T; else `value` stays
// as it is.
template <typename T> bool read_number(std::string_view text, T &value) {
  T read{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), read);
  if (error != std::errc() || end != text.data() + text.size())
    return false;
  value = read;
  return true;
}

// "11211" or "11211-11212", each 1..65535. Only Error.what and .hint are filled in.
Result<PortRange> parse_ports(std::string_view text);

// "11211" where both ends are the same, else "11211-11212".
std::string ports_text(PortRange range);

// "8080,9148-9150" as in net.ipv4.ip_local_reserved_ports; what is no port is passed over.
std::vector<PortRange> parse_port_list(std::string_view text);

// The candidate with the smallest edit distance (a swap of neighbours counts as one), if it is
// close enough to be what was meant.
std::optional<std::string> nearest(std::string_view word,
                                   const std::vector<std::string> &candidates);

// `a`, `b`, `c` as: "a", "b", "c"
std::string quoted_list(const std::vector<std::string> &words);

// `a`, `b`, `c` as: a, b, c
std::string joined(const std::vector<std::string> &words);

// For messages: control bytes as \xNN, at most 64 bytes, in double quotes.
std::string in_quotes(std::string_view text);

// "2024-05-01T12:34:56+0200", local time.
std::string iso_time(std::time_t t);

} // namespace doppel
