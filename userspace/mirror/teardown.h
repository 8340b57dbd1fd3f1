// SPDX-License-Identifier: Apache-2.0
// Removal of what attach makes, step by step, each idempotent. Used by detach, and by attach when
// it fails. Errors are collected, not thrown at the first: as much as possible goes.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <vector>

#include "userspace/kernel/hooks.h"
#include "userspace/kernel/pins.h"
#include "userspace/kernel/rtnl.h"

namespace doppel {

struct Remains {
  std::vector<AttachedProgram> programs; // on the hooks of this network namespace
  std::string link;                      // DP_LINK, or what it is called by now; empty: none
  bool pins = false;
  bool any() const { return !link.empty() || pins || !programs.empty(); }
  // Programs run whose pins are somewhere else: in another BPF file system than `pins` are looked
  // for in.
  bool pins_elsewhere = false;
  // The mount point of that one, where this mount namespace has it; empty: it has not.
  std::string pins_at;
  // "a mirror runs here that ..."; `top`: where its pins are not.
  std::string elsewhere(const std::string &top) const;
  std::string text() const; // "pins, the device doppel0, programs on 3 hooks"
};

// `pins`: null where there is no bpffs.
Result<Remains> find_remains(Rtnl &nl, const Pins *pins);

// Ends the attachments in `programs` that `wanted` says. Notes devices whose clsact is ours.
void end_programs(Rtnl &nl, const std::vector<AttachedProgram> &programs,
                  const std::function<bool(const AttachedProgram &)> &wanted,
                  std::set<uint32_t> &made_qdisc, Errors &errors);

// The rest, in this order: programs, pinned links, qdiscs, DP_LINK, pins.
void remove_everything(Rtnl &nl, const Pins *pins, std::set<uint32_t> made_qdisc, Errors &errors);

} // namespace doppel
