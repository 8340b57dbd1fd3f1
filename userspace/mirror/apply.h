// SPDX-License-Identifier: Apache-2.0
// Makes an attached data plane do what a configuration says, with no gap for what stays the same.
// The same function serves reload, adoption, and repair after devices or routes changed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "userspace/config/config.h"
#include "userspace/mirror/drain.h"
#include "userspace/mirror/meta.h"
#include "userspace/plan/change.h"
#include "userspace/util/pause.h"
#include "userspace/view/snapshot.h"

namespace doppel {

struct ApplyOptions {
  // True: a mapping whose device or route is missing stays as it is, until the next call.
  // False: it is an error, and nothing is changed.
  bool tolerant = false;
  uint32_t only = 0; // Meta::id: any other mirror is an error, and stays as it is; 0: whichever
  uint32_t drain_ms = 2000; // for the shadows of mappings that are removed
  Pause pause;
  // What keeps mappings as they are, and the plan's warnings: told under the lock, before anything
  // changes, so that it is known as well where the rest fails.
  std::function<void(const Errors &deferred, const std::vector<std::string> &warnings)> planned;
};

struct Applied {
  Change change;        // empty: all was as it should be
  bool resumed = false; // an interrupted detach had paused it
  Drained drained;
  std::vector<MappingCounters> ended; // mappings that are gone, with their last ledgers
  Errors deferred;                    // tolerant: why mappings were left as they were
  std::vector<std::string> plan_warnings;
  std::vector<std::string> notes; // of the plan, where the mappings or their programs changed
  // What neighbours and hooks gave cause to warn of. Nothing: this call did not ask.
  std::optional<std::vector<std::string>> neighbours, hooks;
  Meta meta; // as it is now

  std::vector<std::string> warnings() const; // all of them
};

// Takes the lock. On an error nothing has changed, unless the error says so.
Result<Applied> apply(const Config &config, const ApplyOptions &options = {});

// "2 mappings; added a; changed b; removed c, d; shadows closed 3, reset 0"
std::string to_text(const Applied &applied);

} // namespace doppel
