// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/output.h"

#include <algorithm>

namespace doppel {
int exit_code(const Errors &errors) {
  Exit worst = Exit::failure;
  for (const Error &e : errors)
    worst = std::max(worst, e.exit);
  return exit_code(worst);
}

int fail(const Errors &errors, bool json) {
  std::cerr << to_text(errors);
  if (json)
    std::cout << json_text(errors);
  return exit_code(errors);
}

void warn(const std::vector<std::string> &warnings) {
  for (const std::string &w : warnings)
    std::cerr << "warning: " << w << "\n";
}

} // namespace doppel
