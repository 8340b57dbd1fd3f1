// SPDX-License-Identifier: Apache-2.0
#include <csignal>

#include "userspace/cli/command.h"
#include "userspace/cli/interrupt.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/cli/server_options.h"
#include "userspace/migrate/warm.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
struct WarmCommand {
  std::string source, target;
  uint64_t rate = 0;
  migrate::WarmOptions warm;
  ServerOptions servers;
};

void add_options(CLI::App &app, WarmCommand &o) {
  add_server(app, "SOURCE", o.source, "The memcached that has the keys");
  add_server(app, "TARGET", o.target, "The memcached that lacks them");
  add_flag(app, "--repair", o.warm.repair, "Also replace what differs at the target");
  add_flag(app, "--delete-extra", o.warm.delete_extra,
           "Also delete at the target what the source does not have");
  add_text(app, "--prefix", o.warm.prefix, "Only keys that begin like this", "TEXT");
  add_seconds(app, "--settle", o.warm.settle_s,
              "How long the source may take to process a request; so long a copy waits to be "
              "confirmed (default: 2)");
  add_number(app, "--rate", o.rate, "Read at most so many keys a second", "KEYS");
  add_text(app, "--resume", o.warm.resume,
           "Keep list and progress in this file; if it exists, go on where that ended", "FILE");
  add_flag(
      app, "--dry-run", o.warm.dry_run,
      "Write nothing: count what would be copied; with the others also what would be replaced, "
      "deleted");
  add_flag(app, "--stale-ok", o.warm.stale_ok,
           "Go on where reading a stale item took its application's token to renew it");
  add_flag(app, "--without-cas", o.warm.without_cas,
           "Copy also where a server runs without CAS (-C), without the guarantee");
  add_server_options(app, o.servers);
}

int run(const WarmCommand &o) {
  auto options = o.warm;
  const auto source = memcached::parse_server(o.source);
  const auto target = memcached::parse_server(o.target);
  const auto access = access_of(o.servers);
  Errors errors;
  collect(source, errors);
  collect(target, errors);
  collect(access, errors);
  if (!errors.empty())
    return fail(errors, o.servers.json);
  options.source = *source;
  options.target = *target;
  options.access = *access;
  options.rate = static_cast<double>(o.rate);
  interrupt_by_signals({SIGHUP});
  const auto report = migrate::warm(
      options, [](const std::string &sentence) { warn({sentence}); }, interrupted);
  if (!report)
    return fail(report.errors(), o.servers.json);
  std::cout << (o.servers.json ? migrate::json_text(*report) : migrate::to_text(*report));
  if (report->no_key)
    warn({"nothing was compared: the source has no key that begins with " +
          in_quotes(o.warm.prefix)});
  if (!std::cout.flush())
    return exit_code(Exit::failure); // who was to read it does not know what happened
  return migrate::is_complete(*report) ? exit_code(Exit::ok) : exit_code(Exit::detached);
}

} // namespace

const Command warm_command = {
    "warm",
    "Copy to a target what it lacks of a source, also while clients write",
    "What is deleted or changed at the source while it is copied does not come back: each copy is "
    "confirmed --settle later, and undone if it does not hold. Beside a mirror on this host it "
    "waits for what is on its way. The hottest keys come first; it goes slower when the source "
    "answers later, and stops when the target begins to evict. SIGINT, SIGTERM and SIGHUP end "
    "it in order. The exit code is 3 where something was left: keys that were too large, "
    "refused, or changed at each try, or a target that evicts or was flushed; where it stopped "
    "at an item that is marked as stale, or if no key begins with --prefix.",
    "sudo doppel warm cache1 cache2\n"
    "doppel warm cache1:11212 cache2:11212 --resume /var/tmp/warm.11212 --rate 50000",
    declare<WarmCommand, add_options, run>,
    false,
    true};

} // namespace doppel
