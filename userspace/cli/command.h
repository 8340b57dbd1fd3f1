// SPDX-License-Identifier: Apache-2.0
// A command is a file cmd_NAME.cpp, which defines a Command, and a row of commands.def.
#pragma once

#include <functional>
#include <memory>
#include <vector>

namespace CLI {
class App; // of the library, which a compiler reads for seconds: command_line.cpp and options.cpp
           // do
}

namespace doppel {

// Runs what was typed; prints to standard output and standard error; returns the exit code.
using Action = std::function<int()>;

struct Command {
  const char *name;
  const char *summary;  // a sentence without full stop, for lists
  const char *details;  // the sentences after it, for --help and the manual page; may be empty
  const char *examples; // a command line each, separated by newlines; may be empty
  // Adds the command's options to `app`, whose values the action will hold.
  Action (*declare)(CLI::App &app);
  bool hidden = false; // from lists
  bool acts = false;   // its exit code tells what was done or found, also where nothing can be told
};

#define COMMAND(name) extern const Command name##_command;
#include "userspace/cli/commands.def"
#undef COMMAND

// All of them, in the order in which they are explained.
const std::vector<const Command *> &commands();

// For Command::declare: a command whose options are a struct of its own.
template <typename Options, void (*add)(CLI::App &, Options &), int (*run)(const Options &)>
Action declare(CLI::App &app) {
  auto options = std::make_shared<Options>();
  add(app, *options);
  return [options] { return run(*options); };
}

} // namespace doppel
