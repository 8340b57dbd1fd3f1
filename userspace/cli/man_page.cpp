// SPDX-License-Identifier: Apache-2.0
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "userspace/cli/cli.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {

// groff_man(7): a backslash, a hyphen that is typed, and a control character at a line's start.
std::string roff(const std::string &text) {
  std::string s = text.starts_with('.') || text.starts_with('\'') ? "\\&" : "";
  for (const char c : text) {
    if (c == '\\')
      s += "\\e";
    else if (c == '-')
      s += "\\-";
    else
      s += c;
  }
  return s;
}

void item(std::string &page, const std::string &term, const std::string &text) {
  page += ".TP\n.B " + roff(term) + "\n" + roff(text) + ".\n";
}

void commands(std::string &page, const CLI::App &app) {
  for (const CLI::App *sub : app.get_subcommands([](const CLI::App *) { return true; })) {
    if (sub->get_group().empty())
      continue;
    page += ".SS " + roff(sub->get_name()) + "\n" + roff(sub->get_description()) + ".\n";
    for (const CLI::Option *o : sub->get_options()) {
      if (o->get_name() == "--help")
        continue;
      const bool takes_value = o->get_items_expected_max() > 0;
      item(page, o->get_name(false, false) + (takes_value ? " " + o->get_type_name() : ""),
           o->get_description() +
               (o->get_default_str().empty() ? "" : " (default " + o->get_default_str() + ")"));
    }
  }
}

void reasons(std::string &page, const char *heading, const char *what, const Reason *list,
             size_t n) {
  page += std::string(".SS ") + heading + "\n" + what + "\n";
  for (size_t i = 0; i < n; i++)
    item(page, list[i].name, list[i].help);
}

} // namespace

std::string man_page(const CLI::App &app) {
  std::string page = ".TH DOPPEL 1 \"\" \"doppel " DOPPEL_VERSION "\" \"User Commands\"\n"
                     ".SH NAME\ndoppel \\- duplicate live TCP traffic\n"
                     ".SH SYNOPSIS\n.B doppel\n.I COMMAND\n[\\fIOPTIONS\\fR]\n"
                     ".SH DESCRIPTION\n";
  page += roff(app.get_description()) + "\n.SH COMMANDS\n";
  commands(page, app);
  page += ".SH LEDGER\nFor each mapping and target, in bytes of request payload:\n.PP\n"
          ".EX\nobserved = delivered + in_flight + lost + excluded\n.EE\n";
  reasons(page, "Lost", "Bytes that were accepted and did not reach the target.", lost_reasons,
          DP_LOST_N);
  reasons(page, "Excluded", "Bytes that were never meant to be sent.", excluded_reasons,
          DP_EXCLUDED_N);
  reasons(page, "Events", "Packets or occurrences; no bytes are accounted here.", event_reasons,
          DP_EVENT_N);
  page += ".SH EXIT STATUS\n";
  item(page, "0", "Done. For status: nothing is missing; for probe: this host can mirror");
  item(page, "1", "Failed");
  item(page, "2", "The command line or the configuration is wrong");
  return page;
}

} // namespace doppel
