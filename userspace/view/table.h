// SPDX-License-Identifier: Apache-2.0
// Aligned columns and human units for terminals.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace doppel {

// Two blanks between columns. Columns whose heading starts with '>' are aligned to the right. Rows
// are not kept: each is given twice, first to widen() and then to line().
class Columns {
public:
  explicit Columns(std::vector<std::string> headings);
  size_t size() const { return headings_.size(); }
  void widen(const std::vector<std::string> &cells); // as many as there are headings
  // Ended by a newline and indented by `indent` blanks.
  std::string heading(unsigned indent = 0) const { return line(headings_, indent); }
  std::string line(const std::vector<std::string> &cells, unsigned indent = 0) const;

private:
  std::vector<std::string> headings_;
  std::vector<bool> right_;
  std::vector<size_t> widths_;
};

// The same, with the rows.
class Table {
public:
  explicit Table(std::vector<std::string> headings) : columns_(std::move(headings)) {}
  void row(std::vector<std::string> cells); // as many as there are headings
  bool empty() const { return rows_.empty(); }
  // Heading and rows, each ended by a newline and indented by `indent` blanks.
  std::string text(unsigned indent = 0) const;

private:
  Columns columns_;
  std::vector<std::vector<std::string>> rows_;
};

std::string human_count(int64_t n);    // "1,234,567"
std::string human_bytes(int64_t n);    // "999 B", "1.2 GiB"; never rounded up
std::string human_ms(uint64_t ms);     // "250 ms", "12.5 s", "5m 03s", "2h 05m", "3d 04h"
std::string human_share(double share); // "99.99 %"; never rounded up, so 100.00 % means all

} // namespace doppel
