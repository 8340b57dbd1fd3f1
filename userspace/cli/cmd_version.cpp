// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "doppel/abi.h"
#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"

namespace doppel {
namespace {
struct VersionOptions {
  bool json = false;
};

void add_options(CLI::App &app, VersionOptions &o) { add_json_flag(app, o.json); }

int run(const VersionOptions &o) {
  if (o.json)
    std::cout << dump({{"version", DOPPEL_VERSION}, {"abi", DP_ABI}});
  else
    std::cout << "doppel " DOPPEL_VERSION ", ABI " << DP_ABI << "\n";
  return exit_code(Exit::ok);
}

} // namespace

const Command version_command = {
    "version", "Show the version",
    "The ABI is the number of the interface between this program and the one in the kernel.", "",
    declare<VersionOptions, add_options, run>};

} // namespace doppel
