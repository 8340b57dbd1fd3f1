// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/descriptors.h"

#include <fcntl.h>

#include <cerrno>
#include <vector>

#include "userspace/util/fd.h"

namespace doppel {
Status require_descriptors(const std::string &who, size_t n) {
  std::vector<Fd> all;
  while (all.size() < n) {
    all.emplace_back(::open("/", O_PATH | O_CLOEXEC));
    if (!all.back())
      return sys_error(who, "needs " + std::to_string(n) + " open files more", errno);
  }
  return Unit{};
}

} // namespace doppel
