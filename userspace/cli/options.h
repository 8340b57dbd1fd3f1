// SPDX-License-Identifier: Apache-2.0
// Options that several commands have.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "userspace/config/config.h"

namespace doppel {

void add_json_flag(CLI::App &app, bool &json);
void add_drain_option(CLI::App &app, uint32_t &drain_ms);

// What to mirror.
struct MappingOptions {
  std::vector<std::string> x;
  std::string device, config, attach_mode; // empty: not given
  bool bypass_ipsec = false;
};
void add_mapping_options(CLI::App &app, MappingOptions &options);

// The configuration that the options name. Reads the file.
Result<Config> configuration(const MappingOptions &options);

// Of a string that is no whole number up to `max`, what is wrong; else empty.
std::string whole_number_fault(const std::string &text, uint64_t max);

} // namespace doppel
