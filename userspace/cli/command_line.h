// SPDX-License-Identifier: Apache-2.0
// The command line: the commands of the table, the options of all of them, and what was typed.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "userspace/cli/command.h"
#include "userspace/util/error.h"

namespace doppel {

class CommandLine {
public:
  CommandLine();
  ~CommandLine();
  CommandLine(const CommandLine &) = delete;
  CommandLine &operator=(const CommandLine &) = delete;

  // What to do; also help and version are something to do. Errors have Exit::usage. Sets what
  // concerns the whole process: --bpffs and --verbose.
  Result<Action> parse(int argc, const char *const *argv);

  // Command::acts of what parse() returned.
  bool acts() const { return acts_; }

private:
  void add_general_options(CLI::App &app);

  std::unique_ptr<CLI::App> app_;
  std::map<std::string, Action> actions_; // by command
  std::string bpffs_;
  int verbosity_ = 0;
  bool acts_ = false;
};

// What --help and `doppel help` print of all, or of one command.
std::string help_text(const CLI::App &app);

// What belongs to all commands, of one of them.
const CLI::App *all_commands(const CLI::App &command);
// The command of that name; nullptr if there is none.
const CLI::App *find_command(const CLI::App &all, const std::string &name);

// A command that is unknown: what may have been meant.
Error unknown_command(const std::string &word);

} // namespace doppel
