// SPDX-License-Identifier: Apache-2.0
// The list of settings as documents.
#include <cctype>

#include "userspace/config/settings.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
const char *const kIntroduction[] = {
    "The file is JSON, in which // and /* */ comments are allowed. `doppel check --config FILE` "
    "explains every error in it at once. A key that is not listed here is an error.",
    "A time is a whole number with its unit: \"250ms\", \"5s\", \"10min\", \"2h\", \"1d\". A size "
    "is "
    "\"64KiB\", \"64MiB\", \"1GiB\", or a number of bytes. A rate is \"100kbit\", \"100Mbit\", "
    "\"1Gbit\", or a number of bits per second. All other numbers are written without quotes.",
    "A reload (`doppel reload`, or SIGHUP to `doppel run`) puts a changed file in force. What is "
    "fixed while attached makes it fail and change nothing: `doppel detach`, then start again.",
};

struct Section {
  Scope scope;
  const char *heading, *what;
};
const Section kSections[] = {
    {Scope::file, "The file", "Keys of the whole file."},
    {Scope::mapping, "A mapping", "Keys of each element of mappings."},
    {Scope::target, "A target", "Keys of each element of targets."},
};

const char *text_of(WhenAttached when) {
  switch (when) {
  case WhenAttached::fixed:
    return "fixed while attached";
  case WhenAttached::in_place:
    return "changed by a reload";
  case WhenAttached::anew:
    return "with another value a reload makes a new mapping of it";
  }
  return "";
}

bool has_choices(const KeyHelp &key) { return key.form.empty(); }

// "A time from "10ms" to "1min", by default "200ms"; fixed while attached."
std::string facts(const KeyHelp &key) {
  std::string form = has_choices(key) ? "one of the values below" : key.form;
  form[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(form[0])));
  return form + (key.required ? ", required" : ", by default " + key.standard) + "; " +
         text_of(key.when) + ".";
}

// How the value was written in former versions; empty: as today.
std::string former(const KeyHelp &key) {
  const std::string name = key.former;
  const std::string unit = key.measure == Measure::seconds ? "seconds" : "milliseconds";
  if (name.empty())
    return "";
  if (name == key.name)
    return "A number without unit is still read, as " + unit + ".";
  return "The former spelling \"" + name + "\", a number of " + unit +
         " without unit, is still read.";
}

template <typename F> void each_choice(const KeyHelp &key, F f) {
  for (const Choice &c : all_choices())
    if (std::string(c.key) == key.name)
      f("\"" + std::string(c.name) + "\"", c.help);
}

} // namespace

std::string configuration_markdown() {
  std::string page = "# Configuration\n\n"
                     "<!-- Made by `doppel man-configuration` from include/doppel/settings.def: "
                     "change that, not this. -->\n";
  for (const char *paragraph : kIntroduction)
    page += "\n" + std::string(paragraph) + "\n";
  for (const Section &section : kSections) {
    page += "\n## " + std::string(section.heading) + "\n\n" + section.what + "\n";
    for (const KeyHelp &key : all_keys()) {
      if (key.scope != section.scope)
        continue;
      page += "\n### `" + std::string(key.name) + "`\n\n" + facts(key) + "\n\n" + key.help + "\n";
      std::string choices;
      each_choice(key, [&](const std::string &name, const std::string &help) {
        choices += "* `" + name + "`: " + help + ".\n";
      });
      if (!choices.empty())
        page += "\n" + choices;
      if (!former(key).empty())
        page += "\n" + former(key) + "\n";
    }
  }
  return page;
}

// A backslash, a hyphen that is typed, and a control character at a line's start.
std::string roff(const std::string &text) {
  std::string s = text.starts_with('.') || text.starts_with('\'') ? "\\&" : "";
  for (const char c : text) {
    if (c == '\\')
      s += "\\e";
    else if (c == '-')
      s += "\\-";
    else
      s += c;
  }
  return s;
}

std::string configuration_roff() {
  std::string page;
  for (const char *paragraph : kIntroduction)
    page += roff(paragraph) + "\n.PP\n";
  for (const Section &section : kSections) {
    page += ".SS " + roff(section.heading) + "\n" + roff(section.what) + "\n";
    for (const KeyHelp &key : all_keys()) {
      if (key.scope != section.scope)
        continue;
      page +=
          ".TP\n.B " + roff(key.name) + "\n" + roff(facts(key)) + "\n.br\n" + roff(key.help) + "\n";
      each_choice(key, [&](const std::string &name, const std::string &help) {
        page += ".RS\n.TP\n" + roff(name) + "\n" + roff(help) + ".\n.RE\n";
      });
      if (!former(key).empty())
        page += ".br\n" + roff(former(key)) + "\n";
    }
  }
  return page;
}

} // namespace doppel
