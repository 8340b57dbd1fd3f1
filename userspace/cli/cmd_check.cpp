// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/kernel/host_view.h"

namespace doppel {
namespace {
struct CheckOptions {
  std::string config;
  bool no_host = false;
  bool json = false;
};

void add_options(CLI::App &app, CheckOptions &o) {
  add_json_flag(app, o.json);
  constexpr bool kRequired = true;
  add_text(app, "--config", o.config, "The file to check", "FILE", kRequired);
  add_flag(app, "--no-host", o.no_host, "Check the file alone: it is meant for another host");
}

int run(const CheckOptions &o) {
  const auto config = read_config(o.config);
  if (!config)
    return fail(config.errors(), o.json);
  auto warnings = config->former;
  const auto host = o.no_host ? Result<HostView>(Errors{}) : view_host(*config);
  if (host) {
    const auto plan = make_plan(*config, *host);
    if (!plan)
      return fail(plan.errors(), o.json);
    for (const auto *more : {&plan->warnings, &plan->notes})
      warnings.insert(warnings.end(), more->begin(), more->end());
  } else {
    for (const Error &e : host.errors())
      warnings.push_back("not compared with this host: " + e.where + ": " + e.what);
  }
  warn(warnings);
  if (o.json) {
    Json j;
    j["ok"] = true;
    j["config"] = o.config;
    j["compared_with_host"] = static_cast<bool>(host);
    j["warnings"] = warnings;
    std::cout << dump(j);
  } else {
    std::cout << o.config << ": no error found\n";
  }
  return exit_code(Exit::ok);
}

} // namespace

const Command check_command = {"check",
                               "Explain every error in a configuration file at once",
                               "It needs no privileges and changes nothing.",
                               "doppel check --config doppel.json",
                               declare<CheckOptions, add_options, run>,
                               false,
                               true};

} // namespace doppel
