// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cstring>

#include "userspace/text.h"

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
  return parse_number(text, max) ? "" : in_quotes(text) + " is not a number up to " +
                                            std::to_string(max);
}

std::string seconds(const std::string &text) {
  char *end = nullptr;
  const double s = std::strtod(text.c_str(), &end);
  const bool ok = end != text.c_str() && *end == '\0' && s >= 0.05 && s <= 86400;
  return ok ? "" : in_quotes(text) + " is not a number of seconds from 0.05 to 86400";
}

void attach_command(CLI::App &app, Options &o) {
  CLI::App *c = command(app, o, "attach",
                        "Start to mirror. Returns at once: the mirror needs no process");
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

void counters_command(CLI::App &app, Options &o) {
  CLI::App *c = command(app, o, "counters", "Show the ledger: what happened to every byte");
  c->add_option("--watch", o.watch_s, "Show it again every SECONDS, until interrupted")
      ->type_name("SECONDS")
      ->check(CLI::Validator(seconds, ""));
}

// "Could not convert: --watch = x" and the like, as the library says it, without its noise.
Error usage_error(const CLI::App &app, const CLI::ParseError &e, int argc,
                  const char *const *argv) {
  Error error{"command line", e.what(), "`doppel --help` lists the commands", Exit::usage};
  std::vector<std::string> commands;
  for (const CLI::App *sub : app.get_subcommands([](const CLI::App *) { return true; }))
    if (!sub->get_group().empty())
      commands.push_back(sub->get_name());
  const auto chosen = app.get_subcommands();
  if (chosen.empty() && argc > 1 && argv[1][0] != '-') {
    const auto near = nearest(argv[1], commands);
    error.what = "unknown command " + in_quotes(argv[1]);
    error.hint = near ? "did you mean \"" + *near + "\"?" : "known are " + quoted_list(commands);
  } else if (chosen.empty() && argc < 2) {
    error.what = "no command given";
    error.hint = "known are " + quoted_list(commands);
  } else if (!chosen.empty()) {
    error.where = "doppel " + chosen[0]->get_name();
    error.hint = "`" + error.where + " --help` lists its options";
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
  attach_command(*app, o);
  command(*app, o, "detach", "Stop to mirror, and remove everything of doppel's")
      ->add_option("--drain-ms", o.drain_ms,
                   "Wait at most so long for the target to acknowledge what was captured")
      ->type_name("MILLISECONDS")
      ->capture_default_str()
      ->check(CLI::Validator([](const std::string &s) { return whole_number(s, 600'000); }, ""));
  command(*app, o, "status",
          "Show what is attached where, in which order, and whether anything is missing");
  counters_command(*app, o);
  command(*app, o, "flows", "Show each client connection and its shadow");
  command(*app, o, "check", "Explain every error in a file at once; needs no privileges")
      ->add_option("--config", o.config, "The file")
      ->type_name("FILE")
      ->required();
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
    return Parsed(HelpText{chosen.empty() ? app.help() : chosen[0]->help()});
  } catch (const CLI::ParseError &e) {
    options.json = std::any_of(argv, argv + argc,
                               [](const char *a) { return std::strcmp(a, "--json") == 0; });
    return usage_error(app, e, argc, argv);
  }
}

} // namespace doppel
