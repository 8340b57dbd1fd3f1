// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/mirror/probe.h"

namespace doppel {
namespace {
struct ProbeOptions {
  bool json = false;
};

void add_options(CLI::App &app, ProbeOptions &o) { add_json_flag(app, o.json); }

int run(const ProbeOptions &o) {
  const auto probe = probe_host();
  std::cout << (o.json ? dump(to_json(probe)) : to_text(probe));
  return exit_code(is_able(probe) ? Exit::ok : Exit::failure);
}

} // namespace

const Command probe_command = {"probe",
                               "Show what this kernel and host can do, and what would go wrong",
                               "It changes nothing. The exit code is 1 if this host cannot mirror.",
                               "sudo doppel probe", declare<ProbeOptions, add_options, run>};

} // namespace doppel
