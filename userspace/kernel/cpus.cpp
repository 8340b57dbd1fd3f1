// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/cpus.h"

#include <bpf/libbpf.h>

#include "userspace/kernel/libbpf_log.h"
#include "userspace/util/fd.h"

namespace doppel {
Result<size_t> possible_cpus() {
  quiet_libbpf();
  const int n = libbpf_num_possible_cpus();
  if (n <= 0)
    return sys_error("/sys/devices/system/cpu/possible",
                     "the number of this host's CPUs cannot be read", -n,
                     "mount -t sysfs sysfs /sys: counters are kept for each CPU");
  return static_cast<size_t>(n);
}

} // namespace doppel
