// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/list_sum.h"

#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <vector>

#include "userspace/util/fd.h"

namespace doppel::migrate {

Result<ListSum> list_sum(int fd, uint64_t start, const std::string &name) {
  std::vector<Bytef> block(1 << 18);
  ListSum sum{0, crc32_z(0, nullptr, 0)};
  for (;;) {
    const auto n = ::pread(fd, block.data(), block.size(), static_cast<off_t>(start + sum.bytes));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return sys_error(name, "cannot be read", errno);
    if (n == 0)
      return sum;
    sum.crc = crc32_z(sum.crc, block.data(), static_cast<z_size_t>(n));
    sum.bytes += static_cast<uint64_t>(n);
  }
}

std::string how_it_differs(const ListSum &kept, const ListSum &now) {
  if (now.bytes != kept.bytes)
    return "it has " + std::to_string(now.bytes) + " bytes of " + std::to_string(kept.bytes);
  return now.crc != kept.crc ? "its keys are not those that were written" : "";
}

} // namespace doppel::migrate
