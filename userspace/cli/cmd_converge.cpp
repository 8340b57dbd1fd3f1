// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/output.h"
#include "userspace/cli/server_options.h"
#include "userspace/migrate/converge.h"

namespace doppel {
namespace {
struct ConvergeOptions {
  ServerOptions servers;
};

void add_options(CLI::App &app, ConvergeOptions &o) { add_server_options(app, o.servers); }

int run(const ConvergeOptions &o) {
  const auto access = access_of(o.servers);
  if (!access)
    return fail(access.errors(), o.servers.json);
  const auto done = migrate::converge(*access);
  return done ? exit_code(Exit::ok) : fail(done.errors(), o.servers.json);
}

constexpr char kConvergeDetails[] =
    "For mappings that say \"converge\": true. A mirrored cas, incr or append depends on what the "
    "server has, and two connections that write one key at the same moment may be served in "
    "another "
    "order on the target. Such keys are noted by capture, compared some seconds later, and copied "
    "from the source where they differ. doppel run starts this by itself; with doppel attach alone "
    "it is started by hand. It runs until it is stopped, or the mirror is detached. What came of "
    "it "
    "is in doppel counters.";

} // namespace

const Command converge_command = {"converge",
                                  "Repair on the targets what mirroring alone cannot bring there",
                                  kConvergeDetails,
                                  "sudo doppel converge",
                                  declare<ConvergeOptions, add_options, run>,
                                  false,
                                  true};

} // namespace doppel
