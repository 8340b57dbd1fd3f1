// SPDX-License-Identifier: Apache-2.0
// What attach and reload write down in the map `meta` for whoever comes later. JSON, so that the
// next version can still read it.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "userspace/kernel/netns.h"
#include "userspace/kernel/pins.h"
#include "userspace/plan/plan.h"
#include "userspace/view/snapshot.h"

namespace doppel {

struct Meta {
  uint32_t id = 0;       // of the map that it was read from: no other mirror has that one
  bool complete = false; // false: attach did not get to its end
  bool changing = false; // a reload has not got to its end: mappings and ports may not fit together
  std::time_t since = 0; // Unix time, seconds
  uint64_t since_ns = 0; // the same moment, CLOCK_MONOTONIC: the wall clock may be set since
  std::string config_source;
  AttachMode mechanism = AttachMode::clsact; // tcx or clsact
  NetnsId netns;
  std::vector<NamedMapping> mappings;
  std::vector<NamedMapping> going; // removed, and not in the sum of `removed` yet
  std::vector<AttachedProgram> programs;
  uint32_t clock = 0;               // ifindex of DP_LINK_PEER; 0: the data plane has no clock
  dp_config config{};               // of its programs
  std::vector<uint32_t> made_qdisc; // ifindex of devices whose clsact attach created
  Limits limits;                    // as Plan::limits
  uint32_t removed_mappings = 0;    // by reload
  dp_ledger removed{};              // the sum of their last ledgers
  std::vector<uint32_t> counted;    // rows in that sum whose cells may not be cleared yet
  uint32_t reloads = 0;             // how often the keeper was asked to reload
  Errors reload_errors;             // why it did not, the last time
  std::string reload_text;          // what it did, the last time
};

// `meta_fd`: the map. The JSON must fit its value, dp_meta_size() bytes.
Status write_meta(int meta_fd, const Meta &meta);
Status write_meta(const Pins &pins, const Meta &meta);
// What a reload came to, or as much of it as fits: whoever asked for it waits for an answer.
Status write_reload(const Pins &pins, const Meta &meta);

// A mirror without one is none: an attach did not get as far as that, or its end has begun.
struct FoundMeta {
  std::optional<Meta> meta;
  Error why; // there is none
};
// An error tells that nobody knows whether there is one: that is no reason to take anything away.
Result<FoundMeta> find_meta(const Pins &pins);
// The same where one is needed.
Result<Meta> read_meta(const Pins &pins);
// Meta::id of what is pinned; 0: there is no such map.
uint32_t mirror_id(const Pins &pins);

// The name under which the origin of a configuration is noted: a file's is absolute.
std::string source_name(const std::string &config_source);

} // namespace doppel
