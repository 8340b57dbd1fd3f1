// SPDX-License-Identifier: Apache-2.0
#include "userspace/config/settings.h"

#include <netinet/in.h>

#include <algorithm>

#include "userspace/util/text.h"

namespace doppel {
namespace {
std::string quoted(const std::string &text) { return "\"" + text + "\""; }

// A count is written without quotes.
std::string written(Measure measure, uint64_t value) {
  const std::string text = measure_text(measure, value);
  return measure == Measure::count ? text : quoted(text);
}

std::string form_of(Measure measure, uint64_t min, uint64_t max) {
  return measure_name(measure) + " from " + written(measure, min) + " to " + written(measure, max);
}

std::string choice_name(const std::string &key, int64_t value) {
  for (const Choice &c : all_choices())
    if (c.key == key && c.value == value)
      return c.name;
  return "";
}

bool set_ports(const std::string &text, uint16_t &first, uint16_t &last) {
  const auto range = parse_ports(text);
  if (!range)
    return false;
  first = range->first;
  last = range->last;
  return true;
}

} // namespace

const std::vector<KeyHelp> &all_keys() {
  constexpr bool required = true, optional = false;
  const Config file;
  const MappingConfig mapping;
  const TargetConfig target;
  using enum WhenAttached;
  static const std::vector<KeyHelp> list = {
#define DP_SETTING(key, former, measure, field, home, when, min, max, standard, help)              \
  {Scope::file,                                                                                    \
   #key,                                                                                           \
   former,                                                                                         \
   Measure::measure,                                                                               \
   optional,                                                                                       \
   when,                                                                                           \
   form_of(Measure::measure, min, max),                                                            \
   written(Measure::measure, standard),                                                            \
   help},
#define DP_PORT_SETTING(key, first, last, when, lowest, standard_first, standard_last, help)       \
  {Scope::file,                                                                                    \
   #key,                                                                                           \
   "",                                                                                             \
   Measure::count,                                                                                 \
   optional,                                                                                       \
   when,                                                                                           \
   "a range of ports from " #lowest " to 65535",                                                   \
   quoted(ports_text({standard_first, standard_last})),                                            \
   help},
#define DP_MAPPING_SETTING(key, measure, field, when, min, max, standard, help)                    \
  {Scope::mapping,                                                                                 \
   #key,                                                                                           \
   "",                                                                                             \
   Measure::measure,                                                                               \
   optional,                                                                                       \
   when,                                                                                           \
   form_of(Measure::measure, min, max),                                                            \
   written(Measure::measure, standard),                                                            \
   help},
#define DP_SELECT(scope, key, field, when, help)                                                   \
  {Scope::scope, #key, "", Measure::count,                                                         \
   optional,     when, "", quoted(choice_name(#key, static_cast<int64_t>(scope.field))),           \
   help},
#define DP_FLAG(scope, key, field, when, help)                                                     \
  {Scope::scope,                                                                                   \
   #key,                                                                                           \
   "",                                                                                             \
   Measure::count,                                                                                 \
   optional,                                                                                       \
   when,                                                                                           \
   "true or false",                                                                                \
   scope.field ? "true" : "false",                                                                 \
   help},
#define DP_KEY(scope, key, need, when, form, standard, help)                                       \
  {Scope::scope, #key, "", Measure::count, need, when, form, standard, help},
#include "doppel/settings.def"
  };
  return list;
}

const std::vector<Choice> &all_choices() {
  static const std::vector<Choice> list = {
#define DP_CHOICE(key, name, value, help) {#key, #name, static_cast<int64_t>(value), help},
#include "doppel/settings.def"
  };
  return list;
}

const std::vector<Setting> &all_settings() {
  using enum WhenAttached;
  static const std::vector<Setting> list = {
#define DP_SETTING(key, former, measure, field, home, when, min, max, standard, help)              \
  {#key, when, [](const Limits &l) { return l.field; },                                            \
   [](const Limits &l) { return measure_text(Measure::measure, l.field); },                        \
   [](Limits &l, const std::string &text) {                                                        \
     const auto n = parse_measure(Measure::measure, text);                                         \
     if (n)                                                                                        \
       l.field = *n;                                                                               \
     return static_cast<bool>(n);                                                                  \
   }},
#define DP_PORT_SETTING(key, first, last, when, lowest, standard_first, standard_last, help)       \
  {#key, when, [](const Limits &l) { return uint64_t{l.first}; },                                  \
   [](const Limits &l) {                                                                           \
     return ports_text({l.first, l.last});                                                         \
   },                                                                                              \
   [](Limits &l, const std::string &text) { return set_ports(text, l.first, l.last); }},
#include "doppel/settings.def"
  };
  return list;
}

std::map<std::string, std::string> limits_text(const Limits &limits) {
  std::map<std::string, std::string> text;
  for (const Setting &s : all_settings())
    text[s.key] = s.text(limits);
  return text;
}

std::optional<Limits> limits_from_text(const std::map<std::string, std::string> &text) {
  Limits limits;
  for (const Setting &s : all_settings()) {
    const auto value = text.find(s.key);
    if (value != text.end() && !s.set(limits, value->second))
      return std::nullopt;
  }
  return limits;
}

Errors limit_contradictions(const Config &config) {
  struct AtMost {
    const char *key, *other, *hint;
  };
  static const AtMost pairs[] = {
#define DP_AT_MOST(key, other, hint) {#key, #other, hint},
#include "doppel/settings.def"
  };
  const auto find = [](const std::string &key) -> const Setting & {
    return *std::find_if(all_settings().begin(), all_settings().end(),
                         [&](const Setting &s) { return s.key == key; });
  };
  Errors errors;
  for (const AtMost &p : pairs) {
    const Setting &a = find(p.key), &b = find(p.other);
    const Limits &l = config.limits;
    if (a.value(l) > b.value(l))
      errors.push_back({config.source,
                        quoted(p.key) + " (" + a.text(l) + ") is larger than " + quoted(p.other) +
                            " (" + b.text(l) + ")",
                        p.hint, Exit::usage});
  }
  return errors;
}

} // namespace doppel
