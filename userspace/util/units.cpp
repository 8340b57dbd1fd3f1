// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/units.h"

#include <algorithm>
#include <vector>

#include "userspace/util/text.h"

namespace doppel {
namespace {
struct NamedUnit {
  std::string_view name;
  uint64_t factor; // of the smallest unit
};

// From the smallest to the largest.
const std::vector<NamedUnit> &units(Measure measure) {
  static const std::vector<NamedUnit> none = {{"", 1}};
  static const std::vector<NamedUnit> sizes = {
      {"B", 1}, {"KiB", 1u << 10}, {"MiB", 1u << 20}, {"GiB", 1u << 30}};
  static const std::vector<NamedUnit> times = {
      {"ms", 1}, {"s", 1000}, {"min", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}};
  static const std::vector<NamedUnit> rates = {{"bit", 1},
                                               {"kbit", 1000},
                                               {"Mbit", 1'000'000},
                                               {"Gbit", 1'000'000'000},
                                               {"Tbit", 1'000'000'000'000}};
  switch (measure) {
  case Measure::bytes:
    return sizes;
  case Measure::milliseconds:
  case Measure::seconds:
    return times;
  case Measure::bits_per_second:
    return rates;
  case Measure::count:
    break;
  }
  return none;
}

// Smallest units in one of the unit in which the value is kept.
uint64_t kept_in(Measure measure) { return measure == Measure::seconds ? 1000 : 1; }

bool may_do_without(Measure measure) {
  return measure != Measure::milliseconds && measure != Measure::seconds;
}

Error not_a(Measure measure, std::string_view text) {
  std::string hint = "write digits only";
  if (measure == Measure::bytes)
    hint = "write bytes, or a whole number with KiB, MiB or GiB: \"64MiB\"";
  else if (measure == Measure::bits_per_second)
    hint = "write bits per second, or a whole number with kbit, Mbit, Gbit or Tbit: \"100Mbit\"";
  else if (measure != Measure::count)
    hint = "write a whole number with ms, s, min, h or d: \"250ms\"";
  return {"", in_quotes(text) + " is not " + measure_name(measure), hint, Exit::usage};
}

} // namespace

std::string measure_name(Measure measure) {
  switch (measure) {
  case Measure::bytes:
    return "a size";
  case Measure::milliseconds:
  case Measure::seconds:
    return "a time";
  case Measure::bits_per_second:
    return "a rate";
  case Measure::count:
    break;
  }
  return "a whole number";
}

Result<uint64_t> parse_measure(Measure measure, std::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string_view name = text.substr(digits);
  for (const NamedUnit &unit : units(measure)) {
    const bool plain = name.empty() && may_do_without(measure) && unit.factor == 1;
    if (unit.name != name && !plain)
      continue;
    const auto n = parse_number(text.substr(0, digits), UINT64_MAX / unit.factor);
    if (!n)
      break;
    const uint64_t value = *n * unit.factor;
    if (value % kept_in(measure) != 0)
      return Error{"", in_quotes(text) + " is not a whole number of seconds",
                   "fractions of a second make no difference here", Exit::usage};
    return value / kept_in(measure);
  }
  return not_a(measure, text);
}

std::string measure_text(Measure measure, uint64_t value) {
  const std::vector<NamedUnit> &all = units(measure);
  const uint64_t kept = kept_in(measure);
  for (size_t i = all.size(); i-- > 0;)
    if (all[i].factor >= kept &&
        (value == 0 ? all[i].factor == kept : value % (all[i].factor / kept) == 0))
      return std::to_string(value / (all[i].factor / kept)) + std::string(all[i].name);
  return std::to_string(value);
}

} // namespace doppel
