// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/command_line.h"
#include "userspace/cli/man_page.h"
#include "userspace/cli/output.h"

namespace doppel {
namespace {
struct ManOptions {
  const CLI::App *app = nullptr;
};

void add_options(CLI::App &app, ManOptions &o) { o.app = all_commands(app); }

int run(const ManOptions &o) {
  std::cout << man_page(*o.app);
  return exit_code(Exit::ok);
}

} // namespace

const Command man_command = {
    "man", "Print the manual page", "", "", declare<ManOptions, add_options, run>, true};

} // namespace doppel
