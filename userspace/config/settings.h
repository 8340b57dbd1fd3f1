// SPDX-License-Identifier: Apache-2.0
// The list of settings.def as tables. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "userspace/config/config.h"
#include "userspace/util/error.h"
#include "userspace/util/units.h"

namespace doppel {

enum class Scope { file, mapping, target };

// What a reload does with another value: refuses it, takes it, or gives the mapping a row anew.
enum class WhenAttached { fixed, in_place, anew };

// The bounds and spellings of a number in the file.
struct NumberKey {
  const char *name;
  const char *former; // spelling whose value is a plain number in the field's unit; "": none
  Measure measure;
  uint64_t min, max;
};

// One key of the file, for documents.
struct KeyHelp {
  Scope scope;
  const char *name;
  const char *former; // "": none, or the name itself, where a plain number is the former spelling
  Measure measure;    // of a number, and of the former spelling
  bool required;
  WhenAttached when;
  std::string form;     // of the value: "a time from \"10ms\" to \"1min\""; choices: empty
  std::string standard; // as it is written in the file, or in words; empty where required
  const char *help;
};
// In the order in which they are explained.
const std::vector<KeyHelp> &all_keys();

struct Choice {
  const char *key, *name;
  int64_t value;
  const char *help;
};
const std::vector<Choice> &all_choices();

// One setting of the whole mirror, number or range of ports, by its text: "200ms", "16384-32767".
struct Setting {
  const char *key;
  WhenAttached when;
  uint64_t (*value)(const Limits &limits); // of a range of ports the first
  std::string (*text)(const Limits &limits);
  // What text() returned. False, and `limits` is as it was, for anything else.
  bool (*set)(Limits &limits, const std::string &text);
};
const std::vector<Setting> &all_settings();

// All settings by key, with the texts of Setting::text(), and back. A setting that is missing there
// has its default; what is unknown is passed over. Nothing: a text that cannot be read.
std::map<std::string, std::string> limits_text(const Limits &limits);
std::optional<Limits> limits_from_text(const std::map<std::string, std::string> &text);

// Each pair of settings of which one must not be above the other, and is.
Errors limit_contradictions(const Config &config);

} // namespace doppel
