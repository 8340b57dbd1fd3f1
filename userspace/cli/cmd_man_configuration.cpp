// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/output.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
struct ManConfigurationOptions {};

void add_options(CLI::App &, ManConfigurationOptions &) {}

int run(const ManConfigurationOptions &) {
  std::cout << configuration_markdown();
  return exit_code(Exit::ok);
}

} // namespace

const Command man_configuration_command = {"man-configuration",
                                           "Print docs/configuration.md",
                                           "",
                                           "",
                                           declare<ManConfigurationOptions, add_options, run>,
                                           true};

} // namespace doppel
