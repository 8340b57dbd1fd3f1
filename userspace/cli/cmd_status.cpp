// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/keeper/keeper_lock.h"
#include "userspace/mirror/status.h"

namespace doppel {
namespace {
struct StatusOptions {
  bool json = false;
};

void add_options(CLI::App &app, StatusOptions &o) { add_json_flag(app, o.json); }

int run(const StatusOptions &o) {
  const auto status = read_status(find_keeper);
  const int shown = show(status, o.json);
  return status ? exit_code(exit_of(*status)) : shown;
}

constexpr char kStatusDetails[] =
    "The first line tells that all is well, or what is wrong and the one thing to do next. Where "
    "nobody runs doppel run, it looks for up to two seconds. The exit code tells the gravest "
    "problem:"
#define DP_EXIT(name, code, help) " " #code " " help ";"
#include "doppel/exits.def"
    " all other commands know 0, 1 and 2 only.";

} // namespace

const Command status_command = {
    "status",
    "Show whether all is well, what is attached where, and how each target fares",
    kStatusDetails,
    "sudo doppel status",
    declare<StatusOptions, add_options, run>,
    false,
    true};

} // namespace doppel
