// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/keeper/keeper.h"
#include "userspace/util/log.h"

namespace doppel {
namespace {
struct RunOptions {
  MappingOptions mappings;
  uint32_t drain_ms = 2000;
  bool wait = false;
  std::string auth_file;
};

void add_options(CLI::App &app, RunOptions &o) {
  add_mapping_options(app, o.mappings);
  add_drain_option(app, o.drain_ms);
  add_flag(app, "--wait", o.wait,
           "Wait for devices, routes and bpffs that are not there yet, rather than fail");
  add_text(
      app, "--auth-file", o.auth_file,
      "Authenticate at the memcacheds of mappings that converge with the line USER:PASSWORD of "
      "this file",
      "FILE");
}

int run(const RunOptions &o) {
  KeeperOptions options;
  options.load = [&o] { return configuration(o.mappings); };
  options.from_file = !o.mappings.config.empty();
  options.drain_ms = o.drain_ms;
  options.wait = o.wait;
  options.converge = {"/proc/self/exe", "converge"};
  if (!o.auth_file.empty())
    options.converge.insert(options.converge.end(), {"--auth-file", o.auth_file});
  const auto done = Keeper(options).run();
  if (done)
    return exit_code(Exit::ok);
  log_errors(done.errors());
  return exit_code(done.errors());
}

} // namespace

const Command run_command = {
    "run",
    "Start mirroring, or adopt a mirror that is attached, and keep it until stopped",
    "It retransmits what the target does not acknowledge in time, and follows changes of devices "
    "and routes. A mirror that it adopts is changed to what the options or the file say: other "
    "mappings are removed. SIGHUP reads the file again, SIGTERM detaches, SIGUSR1 leaves the "
    "mirror to the next doppel run. If the process dies, the "
    "mirror keeps running, and nobody follows those changes.",
    "sudo doppel run --config /etc/doppel/doppel.json",
    declare<RunOptions, add_options, run>,
    false,
    true};

} // namespace doppel
