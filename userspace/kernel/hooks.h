// SPDX-License-Identifier: Apache-2.0
// What runs on a TC hook, in which order, by which mechanism; and putting ours there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/kernel/rtnl.h"
#include "userspace/util/fd.h"
#include "userspace/view/snapshot.h"

namespace doppel {

// Stands for the name of a program that could not be read.
inline constexpr char kNoName[] = "?";

// Everything on the hook in running order: TCX first, then clsact (tcx_run(), then tc_run()).
Result<std::vector<AttachedProgram>> list_hook(Rtnl &nl, const Hook &hook);

// Ours (by DP_PROG_PREFIX) on every device of this network namespace.
Result<std::vector<AttachedProgram>> find_ours(Rtnl &nl);

// Ends one attachment of ours; one that is gone already is no error.
Status detach_program(Rtnl &nl, const AttachedProgram &program);

// Ahead of every neighbour, but behind `behind_link_fd` (ours, or -1). The link ends the attachment
// when it is closed without a pin.
Result<Fd> attach_tcx(const Attachment &what, int prog_fd, int behind_link_fd);

// Ahead of every neighbour where the priorities leave room, and above the priority `above` (of
// our program that must run before; 0: none). Adds a warning where a neighbour runs first.
// `made_qdisc`: attach has created this device's clsact before. Of the answer, priority, handle
// and made_qdisc are filled in.
Result<AttachedProgram> attach_clsact(Rtnl &nl, const Attachment &what, int prog_fd, uint32_t above,
                                      bool made_qdisc, std::vector<std::string> &warnings);

} // namespace doppel
