// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/kernel/host_view.h"
#include "userspace/kernel/privileges.h"
#include "userspace/mirror/attach.h"

namespace doppel {
namespace {
struct AttachOptions {
  MappingOptions mappings;
  bool json = false;
};

void add_options(CLI::App &app, AttachOptions &o) {
  add_json_flag(app, o.json);
  add_mapping_options(app, o.mappings);
}

struct Outcome {
  Plan plan;
  std::vector<std::string> warnings;
};

Result<Outcome> attach_mappings(const MappingOptions &mappings) {
  const auto config = TRY(configuration(mappings));
  // First of all: without them the host looks poorer than it is.
  TRY(require_privileges("attach", true));
  const auto host = TRY(view_host(config));
  auto plan = TRY(make_plan(config, host));
  const auto report = TRY(attach(plan, config));
  auto warnings = plan.warnings;
  warnings.insert(warnings.end(), plan.notes.begin(), plan.notes.end());
  for (const auto *more : {&report.neighbours, &report.hooks, &report.translated})
    warnings.insert(warnings.end(), more->begin(), more->end());
  for (const MappingConfig &m : config.mappings)
    if (m.converge)
      warnings.push_back("mapping " + m.name +
                         ": its keys are noted, and nothing is repaired until doppel converge or "
                         "doppel run is started");
  return Outcome{std::move(plan), std::move(warnings)};
}

int run(const AttachOptions &o) {
  const auto done = attach_mappings(o.mappings);
  if (!done)
    return fail(done.errors(), o.json);
  warn(done->warnings);
  const std::string mechanism = attach_mode_name(done->plan.mode);
  if (o.json) {
    Json j;
    j["attached"] = true;
    j["mechanism"] = mechanism;
    j["mappings"] = to_json(done->plan.names);
    j["warnings"] = done->warnings;
    std::cout << dump(j);
  } else {
    std::cout << "attached by " << mechanism << "\n\n" << to_text(done->plan.names);
  }
  return exit_code(Exit::ok);
}

} // namespace

const Command attach_command = {
    "attach",
    "Start mirroring and return",
    "The mirror needs no process: it runs in the kernel until doppel detach. Only doppel run adds "
    "retransmission timeouts and follows changes of devices and routes.",
    "sudo doppel attach --device eth0 -x 11211-192.168.2.184:11211\n"
    "sudo doppel attach --config /etc/doppel/doppel.json",
    declare<AttachOptions, add_options, run>,
    false,
    true};

} // namespace doppel
