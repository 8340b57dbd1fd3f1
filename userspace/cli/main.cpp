// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iostream>

#include "userspace/cli/command_line.h"
#include "userspace/cli/output.h"

int main(int argc, char **argv) {
  using namespace doppel;
  CommandLine line;
  const auto action = line.parse(argc, argv);
  if (!action) // --json counts also where the rest cannot be understood
    return fail(action.errors(), std::any_of(argv, argv + argc, [](const char *a) {
                  return std::strcmp(a, "--json") == 0;
                }));
  const int code = (*action)();
  if (!std::cout.flush()) {
    std::cerr << "error: standard output: cannot be written: " << std::strerror(errno) << "\n";
    return exit_code(Exit::failure);
  }
  return code;
}
