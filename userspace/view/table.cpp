// SPDX-License-Identifier: Apache-2.0
#include "userspace/view/table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace doppel {
namespace {
template <typename... A> std::string format(const char *f, A... args) {
  char buf[64];
  std::snprintf(buf, sizeof buf, f, args...);
  return buf;
}

// Code points, for our text is UTF-8 without combining characters.
size_t width(const std::string &s) {
  return static_cast<size_t>(
      std::count_if(s.begin(), s.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

} // namespace

Columns::Columns(std::vector<std::string> headings) : headings_(std::move(headings)) {
  for (std::string &h : headings_) {
    right_.push_back(h.starts_with('>'));
    if (right_.back())
      h.erase(0, 1);
    widths_.push_back(width(h));
  }
}

void Columns::widen(const std::vector<std::string> &cells) {
  for (size_t i = 0; i < cells.size(); i++)
    widths_[i] = std::max(widths_[i], width(cells[i]));
}

std::string Columns::line(const std::vector<std::string> &cells, unsigned indent) const {
  std::string s(indent, ' ');
  for (size_t i = 0; i < cells.size(); i++) {
    const std::string pad(widths_[i] - width(cells[i]), ' ');
    s.append(i == 0 ? 0 : 2, ' ');
    s += right_[i] ? pad + cells[i] : cells[i] + pad;
  }
  return s.substr(0, s.find_last_not_of(' ') + 1) + "\n";
}

void Table::row(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  columns_.widen(cells);
  rows_.push_back(std::move(cells));
}

std::string Table::text(unsigned indent) const {
  std::string out = columns_.heading(indent);
  for (const auto &r : rows_)
    out += columns_.line(r, indent);
  return out;
}

std::string human_count(int64_t n) {
  std::string s = std::to_string(n);
  const size_t sign = n < 0 ? 1 : 0;
  for (size_t at = s.size(); at > sign + 3; at -= 3)
    s.insert(at - 3, 1, ',');
  return s;
}

std::string human_bytes(int64_t n) {
  static constexpr const char *kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  const double magnitude = std::fabs(static_cast<double>(n));
  if (magnitude < 1024)
    return std::to_string(n) + " B";
  double value = magnitude / 1024;
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); unit++)
    value /= 1024;
  const bool tenths = value < 100;
  const double shown = tenths ? std::floor(value * 10) / 10 : std::floor(value);
  return format(tenths ? "%.1f %s" : "%.0f %s", n < 0 ? -shown : shown, kUnits[unit]);
}

std::string human_ms(uint64_t ms) {
  const auto s = static_cast<unsigned long long>(ms / 1000);
  if (ms < 1000)
    return format("%llu ms", static_cast<unsigned long long>(ms));
  if (s < 60)
    return format("%llu.%llu s", s, static_cast<unsigned long long>(ms % 1000 / 100));
  if (s < 3600)
    return format("%llum %02llus", s / 60, s % 60);
  if (s < 86400)
    return format("%lluh %02llum", s / 3600, s / 60 % 60);
  return format("%llud %02lluh", s / 86400, s / 3600 % 24);
}

std::string human_share(double share) {
  // 0.9999 * 10000 is 9998.999...: allow for the binary fraction, but never up to the next step.
  const double steps = std::floor(share * 10000 + (share < 1 ? 1e-7 : 0));
  return format("%.2f %%", std::min(steps, share < 1 ? 9999.0 : 10000.0) / 100);
}

} // namespace doppel
