// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/criteria.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "userspace/util/text.h"
#include "userspace/util/units.h"
#include "userspace/view/table.h"

namespace doppel::migrate {
namespace {
const Criterion *find_criterion(const std::string &name) {
  const auto &all = all_criteria();
  const auto found = std::find_if(all.begin(), all.end(),
                                  [&](const Criterion &c) { return std::string(c.name) == name; });
  return found == all.end() ? nullptr : &*found;
}

// "0.98", "98%" or "99.5%".
std::optional<double> parse_share(std::string text) {
  double unit = 1;
  if (text.ends_with("%")) {
    text.pop_back();
    unit = 100;
  }
  const bool plain = !text.empty() && text.find_first_not_of("0123456789.") == std::string::npos &&
                     std::count(text.begin(), text.end(), '.') <= 1 && text != ".";
  if (!plain)
    return std::nullopt;
  const double share = std::strtod(text.c_str(), nullptr) / unit;
  return share <= 1 ? std::optional(share) : std::nullopt;
}

Result<double> parse_value(const Criterion &c, const std::string &text) {
  if (c.unit == CriterionUnit::share) {
    if (const auto share = parse_share(text))
      return *share;
    return Error{"", in_quotes(text) + " is not a share", "write it as 0.98 or 98%", Exit::usage};
  }
  const Measure measure = c.unit == CriterionUnit::bytes ? Measure::bytes
                          : c.unit == CriterionUnit::ms  ? Measure::milliseconds
                                                         : Measure::count;
  const auto value = TRY(parse_measure(measure, text));
  return static_cast<double>(value);
}

std::vector<std::string> criterion_names() {
  std::vector<std::string> names;
  for (const Criterion &c : all_criteria())
    names.emplace_back(c.name);
  return names;
}

Error unknown_criterion(const std::string &text, const std::string &name) {
  const auto known = criterion_names();
  const auto near = nearest(name, known);
  return {"--limit " + text, in_quotes(name) + " is no criterion",
          near ? "did you mean " + in_quotes(*near) + "?" : "known are " + quoted_list(known),
          Exit::usage};
}

} // namespace

const std::vector<Criterion> &all_criteria() {
  constexpr bool least = true, most = false;
  static const std::vector<Criterion> list = {
#define DP_CRITERION(name, of, unit, bound, standard, help, remedy)                                \
  {#name, CriterionOf::of, CriterionUnit::unit, bound, standard, help, remedy},
#include "userspace/migrate/criteria.def"
  };
  return list;
}

Result<CriterionLimits> parse_limits(const std::vector<std::string> &texts) {
  CriterionLimits limits;
  Errors errors;
  for (const std::string &text : texts) {
    const size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    const Criterion *c = find_criterion(name);
    if (equals == std::string::npos) {
      errors.push_back({"--limit " + text, "has no value", "write NAME=VALUE", Exit::usage});
    } else if (!c) {
      errors.push_back(unknown_criterion(text, name));
    } else if (const auto value = parse_value(*c, text.substr(equals + 1)); !value) {
      const Error &e = value.errors().front();
      errors.push_back({"--limit " + text, e.what, e.hint, Exit::usage});
    } else if (!limits.emplace(name, *value).second) {
      errors.push_back({"--limit " + text, name + " has a limit already", "", Exit::usage});
    }
  }
  if (!errors.empty())
    return errors;
  return limits;
}

double limit_of(const CriterionLimits &limits, const Criterion &c) {
  const auto found = limits.find(c.name);
  return found == limits.end() ? c.standard : found->second;
}

std::string figure_text(CriterionUnit unit, double value) {
  const auto whole = static_cast<int64_t>(std::llround(value));
  switch (unit) {
  case CriterionUnit::share:
    return human_share(value);
  case CriterionUnit::bytes:
    return human_bytes(whole);
  case CriterionUnit::ms:
    return human_ms(static_cast<uint64_t>(std::max<int64_t>(whole, 0)));
  case CriterionUnit::count:
    break;
  }
  return human_count(whole);
}

std::string criteria_markdown() {
  std::string text = "| criterion | of | limit | what it is | where it is not met |\n"
                     "|---|---|---|---|---|\n";
  for (const Criterion &c : all_criteria()) {
    const std::string of = c.of == CriterionOf::mirror ? "the mirror"
                           : c.of == CriterionOf::row  ? "each mapping and target"
                                                       : "each source with its target";
    text += std::string("| `") + c.name + "` | " + of + " | at " +
            (c.at_least ? "least " : "most ") + figure_text(c.unit, c.standard) + " | " + c.help +
            " | " + c.remedy + " |\n";
  }
  return text;
}

} // namespace doppel::migrate
