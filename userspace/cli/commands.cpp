// SPDX-License-Identifier: Apache-2.0
#include "userspace/cli/command.h"

namespace doppel {
const std::vector<const Command *> &commands() {
  static const std::vector<const Command *> all = {
#define COMMAND(name) &name##_command,
#include "userspace/cli/commands.def"
#undef COMMAND
  };
  return all;
}

} // namespace doppel
