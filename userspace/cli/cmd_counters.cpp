// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <optional>

#include "userspace/cli/command.h"
#include "userspace/cli/interrupt.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/mirror/counters.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
struct CountersOptions {
  double watch_s = 0; // 0: once
  bool json = false;
  std::string by;
};

// What --by may say.
const char kByPort[] = "port", kByMapping[] = "mapping";

std::string text_of(const Counters &c, const CountersOptions &o) {
  return o.by == kByPort ? by_port_text(c) : to_text(c);
}

void add_options(CLI::App &app, CountersOptions &o) {
  add_json_flag(app, o.json);
  add_text(app, "--by", o.by,
           "A row for each \"port\", in their order, or each \"mapping\", which is usual", "WHAT");
  add_seconds(app, "--watch", o.watch_s, "Show it again every SECONDS, until interrupted");
}

// Text on a terminal is redrawn in place; elsewhere, and with --json, one document follows another.
int watch(const CountersOptions &o) {
  interrupt_by_signals();
  const bool redraw = !o.json && isatty(STDOUT_FILENO) == 1;
  timespec next{};
  clock_gettime(CLOCK_MONOTONIC, &next);
  std::optional<Counters> before; // the rates of the first are those since attach
  while (!interrupted) {
    auto counters = read_counters();
    if (!counters)
      return fail(counters.errors(), o.json);
    if (before)
      measure_rates(*counters, *before);
    before = *counters;
    if (o.json)
      std::cout << json_text(*counters, true);
    else
      std::cout << (redraw ? "\x1b[H\x1b[2J" : "") << text_of(*counters, o) << (redraw ? "" : "\n");
    if (!std::cout.flush())
      return exit_code(Exit::failure); // nobody reads any more
    const auto ns = static_cast<int64_t>(o.watch_s * 1e9) + next.tv_nsec;
    next.tv_sec += ns / 1'000'000'000;
    next.tv_nsec = ns % 1'000'000'000;
    if (!interrupted)
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, nullptr);
  }
  return exit_code(Exit::ok);
}

int run(const CountersOptions &o) {
  if (!o.by.empty() && o.by != kByPort && o.by != kByMapping)
    return fail(
        {Error{"--by", in_quotes(o.by) + " is none of " + quoted_list({kByMapping, kByPort}),
               "leave it out for a row for each mapping", Exit::usage}},
        o.json);
  if (o.watch_s > 0)
    return watch(o);
  const auto counters = read_counters();
  if (!counters)
    return fail(counters.errors(), o.json);
  std::cout << (o.json ? json_text(*counters) : text_of(*counters, o));
  return exit_code(Exit::ok);
}

} // namespace

const Command counters_command = {"counters", "Show the ledger: what happened to every byte",
                                  "Rates are averages since the mirror was attached; with --watch, "
                                  "from the second time on, since the time before.",
                                  "sudo doppel counters --watch 1",
                                  declare<CountersOptions, add_options, run>};

} // namespace doppel
