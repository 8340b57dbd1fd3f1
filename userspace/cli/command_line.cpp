// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command_line.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <iostream>
#include <sstream>

#include "userspace/cli/output.h"
#include "userspace/kernel/libbpf_log.h"
#include "userspace/kernel/pins.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
constexpr char kAbout[] =
    "Gives a second server its own complete copy of every request, while the real service goes on "
    "as if nothing were there.";

constexpr char kFooter[] =
    "All commands but check, keys, verify, warm, version and help need root; ready, top\n"
    "and probe only for what they tell of a mirror or of this host.\n\n"
    "Examples:\n"
    "  sudo doppel attach --device eth0 -x 11211-192.168.2.184:11211\n"
    "  sudo doppel counters --watch 1\n"
    "  sudo doppel detach\n\n"
    "`doppel help COMMAND` explains a command.";

constexpr size_t kColumns = 80;

Action print(const std::string &text) {
  return [text] {
    std::cout << text;
    return exit_code(Exit::ok);
  };
}

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  for (const Command *c : commands())
    if (!c->hidden)
      names.emplace_back(c->name);
  return names;
}

// Of one letter everything is near.
bool is_long(const std::string &option) { return option.size() > 2; }

std::string meant(const std::string &word, const std::vector<std::string> &known,
                  const std::string &otherwise) {
  const auto near = nearest(word, known);
  return near ? "did you mean \"" + *near + "\"?" : otherwise;
}

Error wrong_command(const std::string &word) {
  if (word.empty())
    return {"command line", "no command given", "known are " + quoted_list(command_names()),
            Exit::usage};
  if (word.starts_with("-"))
    return {"command line", "unknown option " + in_quotes(word),
            "options come after the command; `doppel --help` lists the commands", Exit::usage};
  return unknown_command(word);
}

// The first word, in the order typed, that the command did not take.
std::string first_extra(const CLI::App &sub, int argc, const char *const *argv) {
  const auto extras = sub.remaining();
  const auto typed = std::find_first_of(argv + 1, argv + argc, extras.begin(), extras.end(),
                                        [](const char *a, const std::string &b) { return a == b; });
  return typed == argv + argc ? "" : *typed;
}

// The library's own message is good, but for what it does not know.
Error usage_error(const CLI::App &app, const CLI::ParseError &e, int argc,
                  const char *const *argv) {
  const auto chosen = app.get_subcommands();
  if (const auto before = app.remaining(); !before.empty())
    return wrong_command(before[0]);
  if (chosen.empty())
    return e.get_name() == "RequiredError" ? wrong_command("")
                                           : Error{"command line", e.what(), "", Exit::usage};
  const CLI::App &sub = *chosen[0];
  const std::string where = "doppel " + sub.get_name();
  std::string what = e.what();
  if (what.starts_with(": ")) // the name of an option that help does not show
    what.erase(0, 2);
  Error error{where, what, "`" + where + " --help` lists its options", Exit::usage};
  const std::string extra = first_extra(sub, argc, argv);
  if (extra.starts_with("-")) {
    std::vector<std::string> known;
    for (const CLI::Option *o : sub.get_options())
      if (is_long(o->get_name()))
        known.push_back(o->get_name());
    error.what = "unknown option " + in_quotes(extra);
    if (is_long(extra))
      error.hint = meant(extra, known, error.hint);
  } else if (!extra.empty()) {
    error.what = "unexpected argument " + in_quotes(extra);
  }
  std::replace(error.what.begin(), error.what.end(), '\n', ' ');
  return error;
}

// At blanks, so that no line is longer than a terminal of 80 columns.
std::string wrapped(const std::string &text) {
  std::string out;
  size_t column = 0;
  std::istringstream words(text);
  for (std::string word; words >> word; column += word.size()) {
    if (column > 0 && column + 1 + word.size() > kColumns) {
      out += "\n";
      column = 0;
    } else if (column > 0) {
      out += " ";
      column++;
    }
    out += word;
  }
  return out;
}

std::string footer(const Command &command) {
  std::string text = wrapped(command.details);
  if (const std::string examples = command.examples; !examples.empty()) {
    text += std::string(text.empty() ? "" : "\n\n") +
            (examples.find('\n') == std::string::npos ? "Example:" : "Examples:") + "\n  ";
    for (const char c : examples)
      text += c == '\n' ? std::string("\n  ") : std::string(1, c);
  }
  return text;
}

} // namespace

Error unknown_command(const std::string &word) {
  const auto known = command_names();
  return {"command line", "unknown command " + in_quotes(word),
          meant(word, known, "known are " + quoted_list(known)), Exit::usage};
}

// App::help() would explain the command that was typed.
std::string help_text(const CLI::App &app) {
  const CLI::App *parent = app.get_parent();
  const std::string name = (parent ? parent->get_name() + " " : "") + app.get_name();
  return app.get_formatter()->make_help(&app, name, CLI::AppFormatMode::Normal);
}

const CLI::App *all_commands(const CLI::App &command) { return command.get_parent(); }

const CLI::App *find_command(const CLI::App &all, const std::string &name) {
  const auto found =
      all.get_subcommands([&](const CLI::App *sub) { return sub->get_name() == name; });
  return found.empty() ? nullptr : found.front();
}

void CommandLine::add_general_options(CLI::App &app) {
  constexpr char kGroup[] = "Options of every command";
  app.add_option("--bpffs", bpffs_,
                 "Mount point of the BPF file system, instead of $DOPPEL_BPFFS or /sys/fs/bpf")
      ->type_name("DIR")
      ->group(kGroup);
  app.add_flag("-v,--verbose", verbosity_,
               "Print the warnings of libbpf; given twice, its debugging output too")
      ->group(kGroup);
}

CommandLine::~CommandLine() = default;

CommandLine::CommandLine() : app_(std::make_unique<CLI::App>(kAbout, "doppel")) {
  app_->require_subcommand(1);
  app_->get_formatter()->label("SUBCOMMAND", "COMMAND");
  app_->set_version_flag("-V,--version", "doppel " DOPPEL_VERSION,
                         "Print the version and exit; so does -v alone");
  app_->footer(kFooter);
  add_general_options(*app_);
  for (const Command *c : commands()) {
    CLI::App *sub = app_->add_subcommand(c->name, c->summary);
    sub->footer(footer(*c));
    sub->group(c->hidden ? "" : "Commands");
    actions_[c->name] = c->declare(*sub);
    add_general_options(*sub);
  }
}

Result<Action> CommandLine::parse(int argc, const char *const *argv) {
  if (argc == 2 && std::string(argv[1]) == "-v") // what many programs print their version for
    return print("doppel " DOPPEL_VERSION "\n");
  try {
    app_->parse(argc, argv);
  } catch (const CLI::CallForHelp &) {
    const auto chosen = app_->get_subcommands();
    return print(help_text(chosen.empty() ? *app_ : *chosen[0]));
  } catch (const CLI::CallForVersion &e) {
    return print(std::string(e.what()) + "\n");
  } catch (const CLI::ParseError &e) {
    return usage_error(*app_, e, argc, argv);
  }
  use_bpffs(bpffs_);
  show_libbpf(verbosity_);
  const std::string chosen = app_->get_subcommands()[0]->get_name();
  acts_ = std::any_of(commands().begin(), commands().end(),
                      [&](const Command *c) { return c->name == chosen && c->acts; });
  return actions_.at(chosen);
}

} // namespace doppel
