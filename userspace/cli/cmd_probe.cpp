// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/mirror/probe.h"

namespace doppel {
namespace {
struct ProbeOptions {
  std::string config;
  bool json = false;
};

void add_options(CLI::App &app, ProbeOptions &o) {
  add_json_flag(app, o.json);
  add_text(app, "--config", o.config, "Also look at the devices and targets of this file", "FILE");
}

int run(const ProbeOptions &o) {
  auto probe = probe_host();
  if (!o.config.empty()) {
    const auto config = read_config(o.config);
    if (!config)
      return fail(config.errors(), o.json);
    for (ProbeRow &row : probe_config(*config))
      probe.push_back(std::move(row));
  }
  std::cout << (o.json ? json_text(probe) : to_text(probe));
  return exit_code(is_able(probe) ? Exit::ok : Exit::failure);
}

} // namespace

const Command probe_command = {"probe",
                               "Show what this kernel and host can do, and what would go wrong",
                               "It changes nothing. With a configuration it also tells whether its "
                               "devices carry what is to be mirrored, and connects to its "
                               "targets. The exit code is 1 if this host cannot mirror.",
                               "sudo doppel probe\n"
                               "sudo doppel probe --config /etc/doppel/doppel.json",
                               declare<ProbeOptions, add_options, run>,
                               false,
                               true};

} // namespace doppel
