// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/text.h"

#include <algorithm>
#include <cstdio>

namespace doppel {
std::optional<uint64_t> parse_number(std::string_view text, uint64_t max) {
  uint64_t n = 0;
  if (!read_number(text, n) || n > max)
    return std::nullopt;
  return n;
}

Result<PortRange> parse_ports(std::string_view text) {
  const size_t dash = text.find('-');
  const std::string_view head = text.substr(0, dash);
  const std::string_view tail = dash == std::string_view::npos ? head : text.substr(dash + 1);
  const auto first = parse_number(head, UINT64_MAX), last = parse_number(tail, UINT64_MAX);
  if (!first || !last)
    return Error{"", in_quotes(text) + " is not a port or a range of ports",
                 "write \"11211\" or \"11211-11212\"", Exit::usage};
  if (*first < 1 || *first > 65535 || *last < 1 || *last > 65535)
    return Error{"", in_quotes(text) + " is out of range", "ports go from 1 to 65535", Exit::usage};
  if (*first > *last)
    return Error{"", "the range " + in_quotes(text) + " ends before it starts",
                 "write the lower port first", Exit::usage};
  return PortRange{static_cast<uint16_t>(*first), static_cast<uint16_t>(*last)};
}

std::string ports_text(PortRange range) {
  const std::string first = std::to_string(range.first);
  return range.first == range.last ? first : first + "-" + std::to_string(range.last);
}

std::vector<PortRange> parse_port_list(std::string_view text) {
  std::vector<PortRange> list;
  while (!text.empty()) {
    const size_t end = text.find_first_of(", \t\n");
    if (const auto range = parse_ports(text.substr(0, end)))
      list.push_back(*range);
    text = end == std::string_view::npos ? "" : text.substr(end + 1);
  }
  return list;
}

// Optimal string alignment distance: insertions, deletions, substitutions, swaps of neighbours.
static size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); j++)
    last[j] = j;
  for (size_t i = 1; i <= a.size(); i++) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); j++) {
      const size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::optional<std::string> nearest(std::string_view word,
                                   const std::vector<std::string> &candidates) {
  std::optional<std::string> best;
  size_t best_distance = 0;
  if (word.size() > 64)
    return best;
  for (const std::string &c : candidates) {
    const size_t d = distance(word, c);
    const bool begins = word.size() >= 3 && (c.starts_with(word) || word.starts_with(c));
    const bool close = d <= std::max<size_t>(1, std::max(word.size(), c.size()) / 3);
    if ((close || begins) && (!best || d < best_distance)) {
      best = c;
      best_distance = d;
    }
  }
  return best;
}

std::string joined(const std::vector<std::string> &words) {
  std::string list;
  for (const std::string &word : words)
    list += (list.empty() ? "" : ", ") + word;
  return list;
}

std::string quoted_list(const std::vector<std::string> &words) {
  std::string s;
  for (const std::string &w : words)
    s += (s.empty() ? "\"" : ", \"") + w + "\"";
  return s;
}

std::string in_quotes(std::string_view text) {
  std::string s = "\"";
  for (const char c : text.substr(0, 64)) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7f) {
      char hex[8];
      std::snprintf(hex, sizeof hex, "\\x%02x", u);
      s += hex;
    } else {
      s += c;
    }
  }
  return s + (text.size() > 64 ? "...\"" : "\"");
}

std::string iso_time(std::time_t t) {
  char text[64];
  std::tm local{};
  ::localtime_r(&t, &local);
  return std::strftime(text, sizeof(text), "%FT%T%z", &local) ? text : "";
}

} // namespace doppel
