// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/man_page.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "userspace/cli/command.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
void item(std::string &page, const std::string &term, const std::string &text) {
  page += ".TP\n.B " + roff(term) + "\n" + roff(text) + ".\n";
}

void options(std::string &page, const CLI::App &app, bool of_every_command) {
  for (const CLI::Option *o : app.get_options()) {
    if (o->get_name() == "--help" || o->get_positional() ||
        (o->get_group() != "Options") != of_every_command)
      continue;
    const bool takes_value = o->get_items_expected_max() > 0;
    item(page, o->get_name(false, true) + (takes_value ? " " + o->get_type_name() : ""),
         o->get_description() +
             (o->get_default_str().empty() ? "" : " (default " + o->get_default_str() + ")"));
  }
}

void command_sections(std::string &page, const CLI::App &app) {
  for (const Command *c : commands()) {
    if (c->hidden)
      continue;
    page += std::string(".SS ") + c->name + "\n" + roff(c->summary) + ".\n";
    if (*c->details)
      page += roff(c->details) + "\n";
    options(page, *app.get_subcommand(c->name), false);
    if (*c->examples)
      page += ".PP\n.EX\n" + roff(c->examples) + "\n.EE\n";
  }
  page += ".SS Options of every command\n";
  options(page, app, true);
}

void reasons(std::string &page, const char *heading, const char *what, const Reason *list,
             size_t n) {
  page += std::string(".SS ") + heading + "\n" + what + "\n";
  for (size_t i = 0; i < n; i++)
    item(page, list[i].name,
         std::string(list[i].help) + (list[i].unwanted ? ". Nobody misses these" : ""));
}

void counters(std::string &page, const char *heading, const char *what, CounterGroup group) {
  page += std::string(".SS ") + heading + "\n" + what + "\n";
  for (const Counter &c : all_counters())
    if (c.group == group)
      item(page, c.name, c.help);
}

} // namespace

std::string man_page(const CLI::App &app) {
  std::string page = ".TH DOPPEL 1 \"\" \"doppel " DOPPEL_VERSION "\" \"User Commands\"\n"
                     ".SH NAME\ndoppel \\- duplicate live TCP traffic\n"
                     ".SH SYNOPSIS\n.B doppel\n.I COMMAND\n[\\fIOPTIONS\\fR]\n"
                     ".SH DESCRIPTION\n";
  page += roff(app.get_description()) +
          "\nAll commands but check, keys, verify, version and help need root, or CAP_NET_ADMIN, "
          "CAP_BPF and CAP_PERFMON; ready, top and probe only for what they tell of a mirror or of "
          "this host.\n.SH COMMANDS\n";
  command_sections(page, app);
  page += ".SH CONFIGURATION\n" + configuration_roff();
  page +=
      ".SH LEDGER\nFor each mapping and target, in bytes of request payload:\n.PP\n"
      ".EX\nobserved = delivered + in_flight + lost + excluded\n.EE\n"
      ".PP\nCOMPLETE is the share of what you wanted delivered that is: what your configuration "
      "leaves out, and what is a loop, does not count. MISSING is what will never come: all that "
      "is lost, and what is excluded for any other reason.\n";
  counters(page, "Bytes", "Where the bytes are.", CounterGroup::bytes);
  counters(page, "Flows", "Connections of clients, and their shadows.", CounterGroup::flows);
  counters(page, "Packets", "Packets and segments.", CounterGroup::packets);
  page += ".SS Last\nWhen something happened last, beside the last loss.\n";
  for (const Moment &m : all_moments())
    item(page, m.name, m.help);
  reasons(page, "Lost",
          "Bytes that the source has and the target lacks: accepted and not delivered, or never "
          "captured.",
          lost_reasons, DP_LOST_N);
  reasons(page, "Excluded", "Bytes that were seen and not accepted.", excluded_reasons,
          DP_EXCLUDED_N);
  reasons(page, "Events", "Packets or occurrences; no bytes are accounted here.", event_reasons,
          DP_EVENT_N);
  page += ".SH HEALTH\nWhat status and the keeper's log may tell, the gravest first. The number is "
          "the exit code of status.\n";
  for (const ProblemHelp &p : all_problems())
    item(page, p.name, std::string(p.help) + " (" + std::to_string(static_cast<int>(p.exit)) + ")");
  page += ".SH EXIT STATUS\n";
#define DP_EXIT(name, code, help) item(page, #code, help);
#include "doppel/exits.def"
  return page;
}

} // namespace doppel
