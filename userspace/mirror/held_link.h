// SPDX-License-Identifier: Apache-2.0
// Where a pinned TCX link is. It stays on its device when that leaves the network namespace and
// when it comes back, mostly under another ifindex than the one in the name of the pin.
#pragma once

#include <cstdint>
#include <string>

#include "userspace/kernel/pins.h"
#include "userspace/plan/attachment.h"
#include "userspace/util/fd.h"

namespace doppel {

struct HeldLink {
  Fd fd; // none: no pinned link holds the program there
  std::string path;
  uint32_t id = 0;
};

// The pinned link of the program `prog_id` on that hook, whatever the pin is called.
HeldLink link_on(const Pins &pins, uint32_t prog_id, const Hook &hook);

// Gives the pin another name. What had that name gets the old one, so that nothing ends by it.
Status rename_pin(const std::string &path, const std::string &to);

// Ends the link that is pinned for `what`, wherever its device is, and removes the pin. One that
// has gone on on another device of this network namespace is not meant: its pin gets its name.
Status end_link(const Pins &pins, const Attachment &what);

} // namespace doppel
