// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "userspace/cli/cli.h"
#include "userspace/view/render.h"

int main(int argc, char **argv) {
  using namespace doppel;
  Options options;
  const auto app = make_cli(options);
  const auto parsed = parse_cli(*app, options, argc, argv);
  if (!parsed) {
    std::cerr << to_text(parsed.errors());
    if (options.json)
      std::cout << dump(to_json(parsed.errors()));
    return static_cast<int>(Exit::usage);
  }
  if (const auto *help = std::get_if<HelpText>(&*parsed)) {
    std::cout << help->text;
    return 0;
  }
  if (options.command == "man") {
    std::cout << man_page(*app);
    return 0;
  }
  return run_command(options);
}
