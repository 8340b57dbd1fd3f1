// SPDX-License-Identifier: Apache-2.0
// The qdisc clsact and the filters on it, by rtnetlink. Nothing here flushes: a filter is removed
// by its own priority and handle, the qdisc only when nobody uses it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "doppel/abi.h"
#include "userspace/kernel/rtnl.h"

namespace doppel {

enum class IngressQdisc { none, clsact, ingress };

struct Filter {
  uint32_t priority = 0, handle = 0, chain = 0;
  uint16_t protocol = 0; // host order
  std::string kind;      // "bpf", "u32", ...
  std::string name;      // TCA_BPF_NAME
  uint32_t prog_id = 0;  // of a bpf filter
};

// `device` names the object in errors.
Result<IngressQdisc> ingress_qdisc(Rtnl &nl, uint32_t ifindex, const std::string &device);

// Makes clsact if no qdisc of its kind is there. True: it was made now.
// Egress cannot be had from an existing `ingress` qdisc: an error that explains it.
Result<bool> ensure_clsact(Rtnl &nl, uint32_t ifindex, const std::string &device,
                           dp_direction hook);

// In running order within chain 0; filters of other chains come last. A filter that is no bpf
// program is one row per priority.
Result<std::vector<Filter>> list_filters(Rtnl &nl, uint32_t ifindex, const std::string &device,
                                         dp_direction hook);

// Direct action, all protocols, handle 1. Fails with EEXIST if the priority is taken.
Status add_filter(Rtnl &nl, uint32_t ifindex, const std::string &device, dp_direction hook,
                  int prog_fd, const std::string &name, uint32_t priority);

// Checks that the filter still carries prog_id; one that does not, or is gone, is left alone.
Status remove_filter(Rtnl &nl, uint32_t ifindex, const std::string &device, dp_direction hook,
                     const Filter &filter);

// Removes clsact if neither direction holds a filter of anyone.
Status remove_clsact_if_empty(Rtnl &nl, uint32_t ifindex, const std::string &device);

} // namespace doppel
