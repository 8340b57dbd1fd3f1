// SPDX-License-Identifier: Apache-2.0
// Attaches programs of ours in the right order among themselves, and pins their links.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "userspace/kernel/hooks.h"
#include "userspace/kernel/pins.h"
#include "userspace/mirror/meta.h"

namespace doppel {

class ProgramAttacher {
public:
  // `made_qdisc`: ifindexes of devices whose clsact is ours already.
  ProgramAttacher(Rtnl &nl, const Pins &pins, AttachMode mode, std::set<uint32_t> made_qdisc = {})
      : made_qdisc(std::move(made_qdisc)), nl_(nl), pins_(pins), mode_(mode) {}

  // Ahead of every neighbour as far as that is possible; capture right behind return. A pin of a
  // link that ended is replaced.
  Result<AttachedProgram> attach(int prog_fd, const Attachment &what);

  // Notes in `meta` what attach() is about to make for `list`, and writes that down: a process that
  // is killed in between leaves nothing that the next one does not know to be ours.
  Status announce(const std::vector<Attachment> &list, Meta meta) const;

  std::set<uint32_t> made_qdisc;
  std::vector<std::string> warnings;

private:
  Result<AttachedProgram> attach_link(int prog_fd, const Attachment &what);
  Result<AttachedProgram> attach_filter(int prog_fd, const Attachment &what);
  Status end_former(const Attachment &what, uint32_t prog_id);
  Status move_capture(const Attachment &what, uint32_t above);

  Rtnl &nl_;
  const Pins &pins_;
  AttachMode mode_;
};

// What it means that return is not on the device of an optional attachment, as a sentence.
std::string no_return(const Attachment &what, const Error &why);

// Those of `wanted` that are on their hooks now, with the numbers that the kernel gave them.
std::vector<AttachedProgram> find_running(Rtnl &nl, const Pins &pins,
                                          const std::vector<Attachment> &wanted);

// Ends one attachment, wherever its device is now, and removes the pin of its link.
Status end_attachment(Rtnl &nl, const Pins &pins, const Attachment &what);

} // namespace doppel
