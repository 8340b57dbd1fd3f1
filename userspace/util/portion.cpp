// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/portion.h"

#include <algorithm>

#include "doppel/abi.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
constexpr size_t kPercentDigits = 4, kFractionDigits = 6; // behind the point: parts per million
constexpr uint32_t kLeast = 100;                          // 0.01 %
constexpr uint64_t kHashes = uint64_t{1} << 32;

Error not_a_sample(const std::string &text) {
  return {"", in_quotes(text) + " is no share of the connections",
          "write a share from \"0.01%\" to \"100%\", or a fraction as \"0.1\"", Exit::usage};
}

// A decimal number of so many digits behind the point, in units of its last digit.
std::optional<uint64_t> decimal(const std::string &text, size_t digits) {
  const size_t point = std::min(text.find('.'), text.size());
  std::string behind = point < text.size() ? text.substr(point + 1) : "0";
  if (behind.empty() || behind.size() > digits)
    return std::nullopt;
  behind.resize(digits, '0');
  return parse_number(text.substr(0, point) + behind, Portion::kAll);
}

} // namespace

Result<uint32_t> parse_sample(const std::string &text) {
  const bool percent = text.ends_with('%');
  const std::string number = percent ? text.substr(0, text.size() - 1) : text;
  const size_t digits = percent ? kPercentDigits : kFractionDigits;
  if (number.empty() || number.front() == '.')
    return not_a_sample(text);
  const auto n = decimal(number, digits);
  if (!n || *n < kLeast)
    return not_a_sample(text);
  return static_cast<uint32_t>(*n);
}

std::string sample_text(uint32_t sample) {
  constexpr uint32_t percent = Portion::kAll / 100;
  std::string text = std::to_string(sample / percent), behind = std::to_string(sample % percent);
  behind.insert(0, kPercentDigits - behind.size(), '0');
  while (!behind.empty() && behind.back() == '0')
    behind.pop_back();
  return text + (behind.empty() ? "" : "." + behind) + "%";
}

uint32_t sample_bound(uint32_t sample) {
  if (sample == 0)
    return DP_SAMPLE_NONE;
  if (sample >= Portion::kAll)
    return 0;
  return static_cast<uint32_t>((sample * kHashes + Portion::kAll / 2) / Portion::kAll);
}

uint32_t sample_of_bound(uint32_t bound) {
  if (bound == 0)
    return Portion::kAll;
  if (bound == DP_SAMPLE_NONE)
    return 0;
  return static_cast<uint32_t>((uint64_t{bound} * Portion::kAll + kHashes / 2) / kHashes);
}

std::string portion_text(const Portion &portion) {
  if (portion.is_dry_run())
    return "nothing, as the mapping is a dry run,";
  const std::string of_all = portion.sample == Portion::kAll
                                 ? "all connections"
                                 : sample_text(portion.sample) + " of the connections";
  return portion.copies == 1 ? of_all
                             : of_all + ", each " + std::to_string(portion.copies) + " times";
}

std::string why_unfit(const Portion &portion) {
  std::string why = "is unfit for a migration: ";
  if (portion.is_dry_run())
    return why + "nothing that is written meanwhile arrives";
  if (portion.sample != Portion::kAll)
    why += "a key's set and its delete may come by different connections";
  if (portion.copies != 1)
    why += std::string(portion.sample != Portion::kAll ? ", and " : "") +
           "an incr or append is executed for each copy";
  return why;
}

} // namespace doppel
