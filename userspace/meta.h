// SPDX-License-Identifier: Apache-2.0
// What attach writes down in the map `meta` for status, counters and detach. JSON, so that the
// next version can still read it.
#pragma once

#include <ctime>
#include <string>
#include <vector>

#include "userspace/netlink.h"
#include "userspace/pins.h"
#include "userspace/plan.h"

namespace doppel {

struct AttachedProgram {
  Attachment what;
  uint32_t prog_id = 0;
  uint32_t link_id = 0;              // tcx
  uint32_t priority = 0, handle = 0; // clsact
};

struct Meta {
  bool complete = false; // false: attach did not get to its end
  std::time_t since = 0; // Unix time, seconds
  std::string config_source;
  std::string mechanism; // "tcx" or "clsact"
  NetnsId netns;
  std::vector<NamedMapping> mappings;
  std::vector<AttachedProgram> programs;
  std::vector<uint32_t> made_qdisc; // ifindex of devices whose clsact attach created
};

// `meta_fd`: the map. The JSON must fit DP_META_SIZE.
Status write_meta(int meta_fd, const Meta &meta);
Result<Meta> read_meta(const Pins &pins);

// "2024-05-01T12:34:56+0200", local time.
std::string iso_time(std::time_t t);

} // namespace doppel
