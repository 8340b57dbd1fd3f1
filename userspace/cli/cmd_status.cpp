// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/mirror/status.h"

namespace doppel {
namespace {
struct StatusOptions {
  bool json = false;
};

void add_options(CLI::App &app, StatusOptions &o) { add_json_flag(app, o.json); }

int run(const StatusOptions &o) {
  const auto status = read_status();
  const int shown = show(status, o.json);
  return status && !status->missing.empty() ? exit_code(Exit::failure) : shown;
}

} // namespace

const Command status_command = {
    "status", "Show what is attached where, in which order, and whether anything is missing",
    "The exit code is 1 if something is missing.", "sudo doppel status",
    declare<StatusOptions, add_options, run>};

} // namespace doppel
