// SPDX-License-Identifier: Apache-2.0
// What runs on a TC hook, in which order, by which mechanism; and putting ours there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/kernel/host_net.h"
#include "userspace/kernel/rtnl.h"
#include "userspace/util/fd.h"
#include "userspace/view/snapshot.h"

namespace doppel {

struct Hook {
  uint32_t ifindex = 0;
  std::string device;
  dp_direction direction = DP_DIR_INGRESS;
  std::string text() const; // "device eth0 ingress"
};

// A program found on a hook.
// Stands for the name of a program that could not be read.
inline constexpr char kNoName[] = "?";

struct HookEntry {
  Hook hook;
  HookRow row;
  uint32_t chain = 0;      // clsact
  uint16_t protocol = 0;   // clsact, host order
  bool made_qdisc = false; // clsact: our filter says that we created its qdisc
};

// Everything on the hook in running order: TCX first, then clsact (tcx_run(), then tc_run()).
Result<std::vector<HookEntry>> list_hook(Rtnl &nl, const Hook &hook);

// Ours (by DP_PROG_PREFIX) on every device of this network namespace.
Result<std::vector<HookEntry>> find_ours(Rtnl &nl);

// Ends one attachment of ours; one that is gone already is no error.
Status remove_entry(Rtnl &nl, const HookEntry &entry);

// A program to be placed on a hook.
struct Placement {
  Hook hook;
  std::string program; // DP_PROG_*
  int prog_fd = -1;
};

// Where it went. `link`: TCX only; closing it without a pin ends the attachment.
struct Placed {
  Fd link;
  uint32_t priority = 0, handle = 0;
  bool made_qdisc = false;
};

// Ahead of every neighbour, but behind `behind_link_fd` (ours, or -1).
Result<Placed> place_tcx(const Placement &p, int behind_link_fd);

// Ahead of every neighbour where the priorities leave room, and above the priority `above` (of
// our program that must run before; 0: none). Adds a warning where a neighbour runs first.
// `made_qdisc`: attach has created this device's clsact before.
Result<Placed> place_clsact(Rtnl &nl, const Placement &p, uint32_t above, bool made_qdisc,
                            std::vector<std::string> *warnings);

} // namespace doppel
