// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/command_line.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"

namespace doppel {
namespace {
struct HelpOptions {
  std::string command; // empty: all
  const CLI::App *app = nullptr;
};

void add_options(CLI::App &app, HelpOptions &o) {
  add_word(app, "COMMAND", o.command, "The command to explain");
  o.app = all_commands(app);
}

int run(const HelpOptions &o) {
  if (o.command.empty()) {
    std::cout << help_text(*o.app);
    return exit_code(Exit::ok);
  }
  const CLI::App *found = find_command(*o.app, o.command);
  if (!found)
    return fail({unknown_command(o.command)}, false);
  std::cout << help_text(*found);
  return exit_code(Exit::ok);
}

} // namespace

const Command help_command = {"help", "Explain a command, or list them all", "",
                              "doppel help attach", declare<HelpOptions, add_options, run>};

} // namespace doppel
