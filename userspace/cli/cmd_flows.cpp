// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"
#include "userspace/cli/options.h"
#include "userspace/cli/output.h"
#include "userspace/mirror/flows.h"

namespace doppel {
namespace {
struct FlowsOptions {
  FlowWords words;
  bool json = false;
};

void add_options(CLI::App &app, FlowsOptions &o) {
  const std::string sort =
      "Order by KEY, numbers from the largest, all else from the lowest, or as "
      "said behind a colon. KEY is one of " +
      flow_sort_keys();
  add_text(app, "--mapping", o.words.mapping, "Only connections of this mapping", "NAME");
  add_text(app, "--target", o.words.target, "Only those to this target, as the output names it",
           "ADDRESS:PORT");
  add_text(app, "--client", o.words.client,
           "Only those of clients whose address is this one, or begins like this prefix: "
           "10.0.0.0/8, 2001:db8::/32",
           "PREFIX");
  add_text(app, "--state", o.words.state, "Only those in this state, as the output names it",
           "STATE");
  add_text(app, "--excluded", o.words.excluded,
           "Only those that have no shadow for this reason, as the output names it", "REASON");
  add_text(app, "--sort", o.words.sort, sort.c_str(), "KEY[:asc|desc]");
  add_number(
      app, "--limit", o.words.limit,
      "At most so many connections, of a summary so many clients; how many more there are is "
      "told",
      "N");
  add_flag(app, "--summary", o.words.summary,
           "Numbers and sums instead of connections: of each state and reason, of each mapping and "
           "target, and of the clients with most connections, ten of them without --limit. --sort "
           "then takes flows, or a key that adds up");
  add_json_flag(app, o.json);
}

int run(const FlowsOptions &o) {
  const auto query = parse_flow_query(o.words);
  if (!query)
    return fail(query.errors(), o.json);
  const auto list = read_flows(*query);
  if (!list)
    return fail(list.errors(), o.json);
  (o.json ? print_json : print_text)(std::cout, *list);
  return exit_code(Exit::ok);
}

} // namespace

const Command flows_command = {"flows", "Show each client connection and its shadow",
                               "All options go together, and with --json. What is shown of very "
                               "many connections is not one moment's: they come and go meanwhile.",
                               "sudo doppel flows\n"
                               "sudo doppel flows --summary\n"
                               "sudo doppel flows --sort in_flight --limit 20\n"
                               "sudo doppel flows --client 10.1.0.0/16 --excluded not_joined",
                               declare<FlowsOptions, add_options, run>};

} // namespace doppel
