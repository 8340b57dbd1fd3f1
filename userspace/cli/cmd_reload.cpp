// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/keeper/keeper_lock.h"
#include "userspace/keeper/problems.h"
#include "userspace/mirror/apply.h"
#include "userspace/mirror/maps.h"

namespace doppel {
namespace {
constexpr auto kPoll = std::chrono::milliseconds(20);
constexpr auto kReloadPatience = std::chrono::seconds(30); // beyond what shadows may take to drain

struct ReloadOptions {
  std::string config; // empty: not given
  uint32_t drain_ms = 2000;
  bool json = false;
};

void add_options(CLI::App &app, ReloadOptions &o) {
  add_json_flag(app, o.json);
  add_text(app, "--config", o.config, "Another file than the one it was attached from", "FILE");
  add_drain_option(app, o.drain_ms);
}

struct Reloaded {
  std::string text;
  std::vector<std::string> warnings;
};

// The keeper reads its own file again, and notes in `meta` what came of it.
Result<Reloaded> ask_keeper(const Pins &pins, const Meta &meta, pid_t keeper,
                            const ReloadOptions &o) {
  const std::string name = "the keeper (process " + std::to_string(keeper) + ")";
  if (keeper < 0)
    return Error{"doppel reload", "a keeper in another pid namespace has this mirror in its care",
                 "reload it there"};
  if (!o.config.empty() && source_name(o.config) != meta.config_source)
    return Error{"doppel reload", name + " takes the mappings from " + meta.config_source,
                 "change that, or end the keeper first"};
  if (::kill(keeper, SIGHUP))
    return sys_error("doppel reload", name + " cannot be signalled", errno);
  const auto until =
      std::chrono::steady_clock::now() + kReloadPatience + std::chrono::milliseconds(o.drain_ms);
  while (std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(kPoll);
    auto now = read_meta(pins);
    if (!now || find_keeper(pins) != keeper)
      return Error{"doppel reload", name + " ended meanwhile", "see what it said in its log"};
    if (now->reloads == meta.reloads)
      continue;
    if (!now->reload_errors.empty())
      return now->reload_errors;
    return Reloaded{now->reload_text, {}};
  }
  if (const std::string holder = pins.lock_holder(); !holder.empty())
    return Error{"doppel reload",
                 name + " waits for another doppel that is changing the data plane: " + holder,
                 "when that one is done, reload again"};
  return Error{"doppel reload", name + " has not answered yet, and reloads as soon as it can",
               "see what it says in its log; kill -KILL " + std::to_string(keeper) +
                   " ends it, and leaves the mirror"};
}

Result<Reloaded> reload_by_ourselves(const Meta &meta, const ReloadOptions &o) {
  const std::string file = o.config.empty() ? meta.config_source : o.config;
  std::error_code ec;
  if (o.config.empty() && !std::filesystem::exists(file, ec))
    return Error{"doppel reload", "the mirror was not attached from a file that is still there",
                 "give --config FILE", Exit::usage};
  const auto config = TRY(read_config(file));
  ApplyOptions options;
  options.drain_ms = o.drain_ms;
  const auto applied = TRY(apply(config, options));
  auto warnings = applied.warnings();
  for (std::string &sentence : as_sentences(applied.deferred))
    warnings.push_back(std::move(sentence));
  return Reloaded{to_text(applied), std::move(warnings)};
}

int run(const ReloadOptions &o) {
  const auto attached = find_attached("reload");
  if (!attached)
    return fail(attached.errors(), o.json);
  const pid_t keeper = find_keeper(attached->pins);
  const auto reloaded = keeper ? ask_keeper(attached->pins, attached->meta, keeper, o)
                               : reload_by_ourselves(attached->meta, o);
  if (!reloaded)
    return fail(reloaded.errors(), o.json);
  warn(reloaded->warnings);
  if (o.json)
    std::cout << dump({{"reloaded", true},
                       {"changes", reloaded->text},
                       {"keeper", keeper ? Json(keeper) : Json(nullptr)},
                       {"warnings", reloaded->warnings}});
  else
    std::cout << "reloaded: " << reloaded->text << "\n";
  return exit_code(Exit::ok);
}

} // namespace

const Command reload_command = {
    "reload",
    "Change a running mirror to what its file says now",
    "Mappings that stay the same lose nothing. Where doppel run keeps the mirror, it is asked to "
    "read its file again.",
    "sudo doppel reload",
    declare<ReloadOptions, add_options, run>,
    false,
    true};

} // namespace doppel
