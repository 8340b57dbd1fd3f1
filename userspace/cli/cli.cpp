// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/cli.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstring>

#include "userspace/util/text.h"

namespace doppel {
namespace {

constexpr const char *x_help =
    "Mirror what arrives at LOCALPORT to this target. May be given several times";

CLI::App *command(CLI::App &app, Options &o, const std::string &name, const std::string &help) {
  CLI::App *sub = app.add_subcommand(name, help);
  sub->add_flag("--json", o.json, "Print JSON; errors too, as {\"errors\": [...]}");
  sub->callback([&o, name] { o.command = name; });
  return sub;
}

std::string whole_number(const std::string &text, uint64_t max) {
  return parse_number(text, max)
             ? ""
             : in_quotes(text) + " is not a number up to " + std::to_string(max);
}

std::string seconds(const std::string &text) {
  char *end = nullptr;
  const double s = std::strtod(text.c_str(), &end);
  const bool ok = end != text.c_str() && *end == '\0' && s >= 0.05 && s <= 86400;
  return ok ? "" : in_quotes(text) + " is not a number of seconds from 0.05 to 86400";
}

void mapping_options(CLI::App *c, Options &o) {
  c->add_option("-x", o.x, x_help)
      ->type_name("LOCALPORT-TARGETIP:TARGETPORT")
      ->take_all()
      ->expected(1);
  c->add_option("--device", o.device, "The device that carries the clients' traffic, with -x")
      ->type_name("DEVICE");
  c->add_option("--config", o.config, "Take the mappings from this file")->type_name("FILE");
  c->add_option("--attach-mode", o.attach_mode,
                "How programs are attached: auto (TCX where the kernel has it), tcx or clsact; "
                "goes before what the file says")
      ->type_name("MODE");
}

void drain_option(CLI::App *c, Options &o) {
  c->add_option("--drain-ms", o.drain_ms,
                "Wait at most so long for the target to acknowledge what was captured")
      ->type_name("MILLISECONDS")
      ->capture_default_str()
      ->check(CLI::Validator([](const std::string &s) { return whole_number(s, 600'000); }, ""));
}

void run_command(CLI::App &app, Options &o) {
  CLI::App *c = app.add_subcommand(
      "run",
      "Start to mirror, or take over a mirror that runs, and keep it: resend what the target "
      "does not acknowledge in time, follow changes of devices and routes. SIGHUP reads the "
      "file again, SIGTERM detaches; without this process the mirror goes on, unkept");
  c->callback([&o] { o.command = "run"; });
  mapping_options(c, o);
  drain_option(c, o);
}

void reload_command(CLI::App &app, Options &o) {
  CLI::App *c =
      command(app, o, "reload",
              "Change what a running mirror does to what its file says now: mappings that "
              "stay the same lose nothing");
  c->add_option("--config", o.config, "Another file than the one it was attached from")
      ->type_name("FILE");
  drain_option(c, o);
}

void check_command(CLI::App &app, Options &o) {
  CLI::App *c =
      command(app, o, "check", "Explain every error in a file at once; needs no privileges");
  c->add_option("--config", o.config, "The file")->type_name("FILE")->required();
  c->add_flag("--no-host", o.no_host,
              "Look at the file alone: it is meant for another host than this one");
}

void counters_command(CLI::App &app, Options &o) {
  CLI::App *c = command(app, o, "counters", "Show the ledger: what happened to every byte");
  c->add_option("--watch", o.watch_s, "Show it again every SECONDS, until interrupted")
      ->type_name("SECONDS")
      ->check(CLI::Validator(seconds, ""));
}

std::vector<std::string> command_names(const CLI::App &app) {
  std::vector<std::string> names;
  for (const CLI::App *sub : app.get_subcommands([](const CLI::App *) { return true; }))
    if (!sub->get_group().empty())
      names.push_back(sub->get_name());
  return names;
}

std::string meant(const std::string &word, const std::vector<std::string> &known,
                  const std::string &otherwise) {
  const auto near = nearest(word, known);
  return near ? "did you mean \"" + *near + "\"?" : otherwise;
}

Error wrong_command(const CLI::App &app, const std::string &word) {
  const std::vector<std::string> known = command_names(app);
  const std::string list = "known are " + quoted_list(known);
  if (word.empty())
    return {"command line", "no command given", list, Exit::usage};
  if (word.starts_with("-"))
    return {"command line", "unknown option " + in_quotes(word),
            "options come after the command; `doppel --help` lists the commands", Exit::usage};
  return {"command line", "unknown command " + in_quotes(word), meant(word, known, list),
          Exit::usage};
}

// The first word, in the order typed, that the command did not take.
std::string first_extra(const CLI::App &sub, int argc, const char *const *argv) {
  const std::vector<std::string> extras = sub.remaining();
  const auto typed = std::find_first_of(argv + 1, argv + argc, extras.begin(), extras.end(),
                                        [](const char *a, const std::string &b) { return a == b; });
  return typed == argv + argc ? "" : *typed;
}

// The library's own message is good, but for what it does not know.
Error usage_error(const CLI::App &app, const CLI::ParseError &e, int argc,
                  const char *const *argv) {
  const auto chosen = app.get_subcommands();
  if (const auto before = app.remaining(); !before.empty())
    return wrong_command(app, before[0]);
  if (chosen.empty())
    return wrong_command(app, argc > 1 ? argv[1] : "");
  const CLI::App &sub = *chosen[0];
  const std::string where = "doppel " + sub.get_name();
  Error error{where, e.what(), "`" + where + " --help` lists its options", Exit::usage};
  const std::string extra = first_extra(sub, argc, argv);
  if (extra.starts_with("-")) {
    std::vector<std::string> known;
    for (const CLI::Option *o : sub.get_options())
      known.push_back(o->get_name());
    error.what = "unknown option " + in_quotes(extra);
    error.hint = meant(extra, known, error.hint);
  } else if (!extra.empty()) {
    error.what = "unexpected argument " + in_quotes(extra);
  }
  std::replace(error.what.begin(), error.what.end(), '\n', ' ');
  return error;
}

} // namespace

std::unique_ptr<CLI::App> make_cli(Options &o) {
  auto app = std::make_unique<CLI::App>(
      "Gives a second server its own complete copy of every request, while the real service "
      "goes on as if nothing were there.",
      "doppel");
  app->require_subcommand(1);
  mapping_options(
      command(*app, o, "attach", "Start to mirror. Returns at once: the mirror needs no process"),
      o);
  run_command(*app, o);
  reload_command(*app, o);
  drain_option(command(*app, o, "detach", "Stop to mirror, and remove everything of doppel's"), o);
  command(*app, o, "status",
          "Show what is attached where, in which order, and whether anything is missing");
  counters_command(*app, o);
  command(*app, o, "flows", "Show each client connection and its shadow");
  check_command(*app, o);
  command(*app, o, "probe", "Show what this kernel and host can do, and what would go wrong");
  command(*app, o, "version", "Show the version");
  command(*app, o, "man", "Print the manual page")->group("");
  return app;
}

Result<std::variant<Unit, HelpText>> parse_cli(CLI::App &app, Options &options, int argc,
                                               const char *const *argv) {
  using Parsed = std::variant<Unit, HelpText>;
  try {
    app.parse(argc, argv);
    return Parsed(Unit{});
  } catch (const CLI::CallForHelp &) {
    const auto chosen = app.get_subcommands();
    return Parsed(HelpText{chosen.empty() ? app.help() : chosen[0]->help("doppel")});
  } catch (const CLI::ParseError &e) {
    options.json =
        std::any_of(argv, argv + argc, [](const char *a) { return std::strcmp(a, "--json") == 0; });
    return usage_error(app, e, argc, argv);
  }
}

} // namespace doppel
