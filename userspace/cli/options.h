// SPDX-License-Identifier: Apache-2.0
// The options of commands: what each kind of them is to the library, and those that several have.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/config/config.h"

namespace CLI {
class App;
}

namespace doppel {

// Each sets `value` when the option is given. `type` stands for the value in --help.
void add_flag(CLI::App &app, const char *name, bool &value, const char *help);
void add_text(CLI::App &app, const char *name, std::string &value, const char *help,
              const char *type, bool required = false);
// The same, as often as it is given.
void add_texts(CLI::App &app, const char *name, std::vector<std::string> &values, const char *help,
               const char *type);
// A number of seconds from 0.05 to 86,400.
void add_seconds(CLI::App &app, const char *name, double &value, const char *help);
// A whole number from 1 to 10^12.
void add_number(CLI::App &app, const char *name, uint64_t &value, const char *help,
                const char *type);
// Both cannot be given at once. They must have been added.
void exclude(CLI::App &app, const char *name, const char *other);
// A word without an option before it.
void add_word(CLI::App &app, const char *name, std::string &value, const char *help);

void add_json_flag(CLI::App &app, bool &json);
void add_drain_option(CLI::App &app, uint32_t &drain_ms);

// What to mirror.
struct MappingOptions {
  std::vector<std::string> x;
  std::string device, config, attach_mode; // empty: not given
  bool bypass_ipsec = false;
  bool dry_run = false;
};
void add_mapping_options(CLI::App &app, MappingOptions &options);

// The configuration that the options name. Reads the file.
Result<Config> configuration(const MappingOptions &options);

// Of a string that is no whole number up to `max`, what is wrong; else empty.
std::string whole_number_fault(const std::string &text, uint64_t max);

} // namespace doppel
