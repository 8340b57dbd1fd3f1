// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/modules.h"

#include <sys/utsname.h>

#include <algorithm>
#include <fstream>

namespace doppel {
bool module_is_idle(const std::string &name) {
  std::ifstream loaded("/proc/modules");
  for (std::string line; std::getline(loaded, line);)
    if (line.starts_with(name + " "))
      return false;
  utsname u{};
  ::uname(&u);
  // Of a kernel without this file there are no modules to load.
  std::ifstream builtin(std::string("/lib/modules/") + u.release + "/modules.builtin");
  if (!builtin)
    return false;
  for (std::string line; std::getline(builtin, line);) {
    std::replace(line.begin(), line.end(), '-', '_');
    if (line.ends_with("/" + name + ".ko"))
      return false;
  }
  return true;
}

} // namespace doppel
