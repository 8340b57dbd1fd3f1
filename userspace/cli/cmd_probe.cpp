// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/cli/server_options.h"
#include "userspace/migrate/probe_pair_read.h"
#include "userspace/mirror/probe.h"

namespace doppel {
namespace {
using namespace migrate;

constexpr Exit kSomethingToDo = Exit::detached; // the code is that of verify as well

struct ProbeOptions {
  ServerOptions servers;
  std::string source, target; // words; empty: this host
  std::string config;
};

void add_options(CLI::App &app, ProbeOptions &o) {
  add_text(app, "--config", o.config, "Also look at the devices and targets of this file", "FILE");
  add_word(app, "SOURCE", o.source, "A memcached, to be held against the next one");
  add_word(app, "TARGET", o.target, "The memcached that is to take its place");
  add_server_options(app, o.servers);
}

int run_pair(const ProbeOptions &o) {
  Errors errors;
  if (o.target.empty())
    errors.push_back(
        {"doppel probe", "a source without a target", "name both: SOURCE TARGET", Exit::usage});
  if (!o.config.empty())
    errors.push_back({"doppel probe", "SOURCE TARGET cannot go together with --config",
                      "give the one or the other", Exit::usage});
  const auto source = memcached::parse_server(o.source), target = memcached::parse_server(o.target);
  const auto access = access_of(o.servers);
  collect(source, errors);
  if (!o.target.empty())
    collect(target, errors);
  collect(access, errors);
  if (!errors.empty())
    return fail(errors, o.servers.json);
  const auto rows = probe_pair(*source, *target, *access);
  if (!rows)
    return fail(rows.errors(), o.servers.json);
  std::cout << (o.servers.json ? json_text(*rows) : to_text(*rows));
  return exit_code(is_fine(*rows) ? Exit::ok : kSomethingToDo);
}

int run(const ProbeOptions &o) {
  if (!o.source.empty())
    return run_pair(o);
  auto probe = probe_host();
  if (!o.config.empty()) {
    const auto config = read_config(o.config);
    if (!config)
      return fail(config.errors(), o.servers.json);
    for (ProbeRow &row : probe_config(*config))
      probe.push_back(std::move(row));
  }
  std::cout << (o.servers.json ? json_text(probe) : to_text(probe));
  return exit_code(is_able(probe) ? Exit::ok : Exit::failure);
}

} // namespace

const Command probe_command = {"probe",
                               "Show what this kernel and host can do, and what would go wrong",
                               "It changes nothing. With a configuration it also tells whether its "
                               "devices carry what is to be mirrored, and connects to its "
                               "targets. The exit code is 1 if this host cannot mirror. With two "
                               "memcacheds it tells instead whether the one can take the place of "
                               "the other: settings, features, memory, clocks. The exit code is "
                               "then 3 if there is something to do.",
                               "sudo doppel probe\n"
                               "sudo doppel probe --config /etc/doppel/doppel.json\n"
                               "doppel probe cache1:11211 cache2:11211",
                               declare<ProbeOptions, add_options, run>,
                               false,
                               true};

} // namespace doppel
