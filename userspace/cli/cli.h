// SPDX-License-Identifier: Apache-2.0
// The command line: what can be typed, and what was.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "userspace/util/error.h"

namespace doppel {

struct Options {
  std::string command; // name of the subcommand
  bool json = false;
  std::vector<std::string> x;
  std::string device, config, attach_mode; // empty: not given
  uint32_t drain_ms = 2000;
  double watch_s = 0;   // 0: once
  bool no_host = false; // check: the file alone
};

// The tree of commands; parsing it fills in `options`, which must live as long.
std::unique_ptr<CLI::App> make_cli(Options &options);

// What to print, on success, instead of running a command: help.
struct HelpText {
  std::string text;
};

// Errors have Exit::usage. `options.json` is right also where the rest is not.
Result<std::variant<Unit, HelpText>> parse_cli(CLI::App &app, Options &options, int argc,
                                               const char *const *argv);

// Runs the command, prints to stdout and stderr, and returns the exit code.
int run_command(const Options &options);

// The manual page, roff, from the tree of commands and the list of reasons.
std::string man_page(const CLI::App &app);

} // namespace doppel
