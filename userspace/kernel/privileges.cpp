// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/privileges.h"

#include <linux/capability.h>

#include <cstdlib>
#include <fstream>
#include <vector>

namespace doppel {
bool has_capability(unsigned number) {
  std::ifstream status("/proc/thread-self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("CapEff:"))
      return std::strtoull(line.c_str() + 7, nullptr, 16) >> number & 1;
  return false;
}

Status require_privileges(const std::string &command, bool loads) {
  // CAP_SYS_ADMIN includes what CAP_BPF and CAP_PERFMON were split off from it (bpf_capable(),
  // perfmon_capable()). CAP_PERFMON: the verifier lets no other program keep pointers in maps.
  const struct {
    unsigned number;
    const char *name;
    bool in_sys_admin, wanted;
  } all[] = {{CAP_NET_ADMIN, "CAP_NET_ADMIN", false, true},
             {CAP_BPF, "CAP_BPF", true, true},
             {CAP_PERFMON, "CAP_PERFMON", true, loads}};
  std::vector<std::string> missing;
  for (const auto &one : all)
    if (one.wanted && !has_capability(one.number) &&
        !(one.in_sys_admin && has_capability(CAP_SYS_ADMIN)))
      missing.push_back(one.name);
  if (missing.empty())
    return Unit{};
  std::string list = missing.front();
  for (size_t i = 1; i < missing.size(); i++)
    list += (i + 1 < missing.size() ? ", " : " and ") + missing[i];
  return Error{"doppel " + command, "not permitted: this process lacks " + list,
               "run it as root: sudo doppel " + command};
}

} // namespace doppel
