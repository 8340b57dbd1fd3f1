// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/mirror/detach.h"

namespace doppel {
namespace {
struct DetachOptions {
  uint32_t drain_ms = 2000;
  bool force = false;
  bool json = false;
};

void add_options(CLI::App &app, DetachOptions &o) {
  add_json_flag(app, o.json);
  add_drain_option(app, o.drain_ms);
  add_flag(app, "--force", o.force,
           "Also end a mirror whose pins cannot be seen from here, undrained and without its "
           "ledger, and that of another version of doppel, which is not here any more");
}

// Where something failed on the way, what was counted until then is told all the same. What the
// target lacks is an error as well: whoever switches over next must not overlook it.
int run(const DetachOptions &o) {
  const auto report = detach(o.drain_ms, {}, o.force);
  const int code = show(report, o.json);
  if (!report)
    return code;
  Errors errors = report->errors;
  collect(shortfalls(*report), errors);
  if (errors.empty())
    return code;
  std::cerr << to_text(errors);
  return exit_code(errors);
}

} // namespace

const Command detach_command = {
    "detach",
    "Stop mirroring and remove everything doppel installed",
    "The shadows are closed first, so that the target gets what was captured. It also removes what "
    "an interrupted attach left behind.",
    "sudo doppel detach",
    declare<DetachOptions, add_options, run>,
    false,
    true};

} // namespace doppel
