// SPDX-License-Identifier: Apache-2.0
// One function for each command of the command line.
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <iostream>

#include "userspace/cli/commands.h"
#include "userspace/kernel/host_view.h"
#include "userspace/kernel/pins.h"
#include "userspace/kernel/privileges.h"
#include "userspace/mirror/attach.h"
#include "userspace/mirror/counters.h"
#include "userspace/mirror/detach.h"
#include "userspace/mirror/flows.h"
#include "userspace/mirror/probe.h"
#include "userspace/mirror/status.h"
#include "userspace/plan/plan.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {

int code(Exit e) { return static_cast<int>(e); }

} // namespace

int fail(const Errors &errors, bool json) {
  std::cerr << to_text(errors);
  if (json)
    std::cout << dump(to_json(errors));
  Exit worst = Exit::failure;
  for (const Error &e : errors)
    worst = std::max(worst, e.exit);
  return code(worst);
}

void warn(const std::vector<std::string> &warnings) {
  for (const std::string &w : warnings)
    std::cerr << "warning: " << w << "\n";
}

namespace {

template <typename T> int show(const Result<T> &value, bool json) {
  if (!value)
    return fail(value.errors(), json);
  std::cout << (json ? dump(to_json(*value)) : to_text(*value));
  return code(Exit::ok);
}

} // namespace

Result<Config> configuration(const Options &o) {
  const bool options = !o.x.empty() || !o.device.empty();
  if (!o.config.empty() && options)
    return Error{"command line", "--config cannot go together with -x or --device",
                 "the file names the devices: give the one or the others", Exit::usage};
  if (o.config.empty() && !options)
    return Error{"command line", "there is nothing to mirror",
                 "give --config FILE, or --device DEVICE -x LOCALPORT-TARGETIP:TARGETPORT",
                 Exit::usage};
  Result<Config> config =
      o.config.empty() ? config_from_options(o.device, o.x) : read_config(o.config);
  if (o.attach_mode.empty())
    return config;
  const Result<AttachMode> mode = parse_attach_mode(o.attach_mode);
  if (config && mode) {
    config->attach_mode = *mode;
    return config;
  }
  Errors errors = config ? Errors{} : config.errors();
  if (!mode)
    errors.insert(errors.end(), mode.errors().begin(), mode.errors().end());
  return errors;
}

namespace {

int attach_command(const Options &o) {
  const Result<Config> config = configuration(o);
  if (!config)
    return fail(config.errors(), o.json);
  // First of all: without them the host looks poorer than it is.
  if (const Status s = require_privileges("attach", true); !s)
    return fail(s.errors(), o.json);
  const Result<HostView> host = view_host(*config);
  if (!host)
    return fail(host.errors(), o.json);
  const Result<Plan> plan = make_plan(*config, *host);
  if (!plan)
    return fail(plan.errors(), o.json);
  const auto attached = attach(*plan, *config);
  if (!attached)
    return fail(attached.errors(), o.json);

  std::vector<std::string> warnings = plan->warnings;
  for (const auto *more : {&attached->neighbours, &attached->hooks})
    warnings.insert(warnings.end(), more->begin(), more->end());
  warn(warnings);
  const std::string mechanism = attach_mode_name(plan->mode);
  if (o.json) {
    Json j;
    j["attached"] = true;
    j["mechanism"] = mechanism;
    j["mappings"] = to_json(plan->names);
    j["warnings"] = warnings;
    std::cout << dump(j);
  } else {
    std::cout << "attached by " << mechanism << "\n\n" << to_text(plan->names);
  }
  return code(Exit::ok);
}

int check_command(const Options &o) {
  const Result<Config> config = read_config(o.config);
  if (!config)
    return fail(config.errors(), o.json);
  std::vector<std::string> warnings;
  const Result<HostView> host = o.no_host ? Result<HostView>(Errors{}) : view_host(*config);
  if (host) {
    const Result<Plan> plan = make_plan(*config, *host);
    if (!plan)
      return fail(plan.errors(), o.json);
    warnings = plan->warnings;
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
  return code(Exit::ok);
}

volatile std::sig_atomic_t interrupted = 0;

void interrupt(int) { interrupted = 1; }

// Text on a terminal is redrawn in place; elsewhere, and with --json, one document follows another.
int watch_counters(const Options &o) {
  struct sigaction sa {};
  sa.sa_handler = interrupt; // without SA_RESTART: ends the sleep
  sigaction(SIGINT, &sa, nullptr);
  sigaction(SIGTERM, &sa, nullptr);
  const bool redraw = !o.json && isatty(STDOUT_FILENO) == 1;
  timespec next{};
  clock_gettime(CLOCK_MONOTONIC, &next);
  while (interrupted == 0) {
    const Result<Counters> counters = read_counters();
    if (!counters)
      return fail(counters.errors(), o.json);
    if (o.json)
      std::cout << dump(to_json(*counters), true);
    else
      std::cout << (redraw ? "\x1b[H\x1b[2J" : "") << to_text(*counters) << (redraw ? "" : "\n");
    if (!std::cout.flush())
      return code(Exit::failure); // nobody reads any more
    const auto ns = static_cast<int64_t>(o.watch_s * 1e9) + next.tv_nsec;
    next.tv_sec += ns / 1'000'000'000;
    next.tv_nsec = ns % 1'000'000'000;
    if (interrupted == 0)
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, nullptr);
  }
  return code(Exit::ok);
}

int status_command(const Options &o) {
  const Result<StatusView> status = read_status();
  const int shown = show(status, o.json);
  return status && !status->missing.empty() ? code(Exit::failure) : shown;
}

int probe_command(const Options &o) {
  const std::vector<ProbeRow> probe = probe_host();
  std::cout << (o.json ? dump(to_json(probe)) : to_text(probe));
  return code(is_able(probe) ? Exit::ok : Exit::failure);
}

int version_command(const Options &o) {
  if (o.json)
    std::cout << dump({{"version", DOPPEL_VERSION}, {"abi", DP_ABI}});
  else
    std::cout << "doppel " DOPPEL_VERSION ", ABI " << DP_ABI << "\n";
  return code(Exit::ok);
}

int dispatch(const Options &o) {
  if (o.command == "attach")
    return attach_command(o);
  if (o.command == "run")
    return keep_command(o);
  if (o.command == "reload")
    return reload_command(o);
  if (o.command == "detach")
    return show(detach(o.drain_ms), o.json);
  if (o.command == "status")
    return status_command(o);
  if (o.command == "counters")
    return o.watch_s > 0 ? watch_counters(o) : show(read_counters(), o.json);
  if (o.command == "flows")
    return show(read_flows(), o.json);
  if (o.command == "check")
    return check_command(o);
  if (o.command == "probe")
    return probe_command(o);
  return version_command(o);
}

} // namespace

int run_command(const Options &options) {
  const int result = dispatch(options);
  if (!std::cout.flush()) {
    std::cerr << "error: standard output: cannot be written: " << std::strerror(errno) << "\n";
    return code(Exit::failure);
  }
  return result;
}

} // namespace doppel
