// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/mirror/flows.h"

namespace doppel {
namespace {
struct FlowsOptions {
  bool json = false;
};

void add_options(CLI::App &app, FlowsOptions &o) { add_json_flag(app, o.json); }

int run(const FlowsOptions &o) { return show(read_flows(), o.json); }

} // namespace

const Command flows_command = {"flows", "Show each client connection and its shadow", "",
                               "sudo doppel flows", declare<FlowsOptions, add_options, run>};

} // namespace doppel
