// SPDX-License-Identifier: Apache-2.0
// Copies to the target what it lacks of the source, so that what is written meanwhile is never
// undone: docs/warm.md.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "userspace/memcached/access.h"
#include "userspace/memcached/server.h"
#include "userspace/util/error.h"

namespace doppel::migrate {

struct WarmOptions {
  memcached::Server source, target;
  memcached::Access access;
  std::string prefix; // only keys that begin so
  std::string resume; // file; empty: none
  double settle_s = 2;
  double rate = 0; // keys/s; 0: as fast as the source goes on answering its clients
  bool repair = false, delete_extra = false, dry_run = false, stale_ok = false;
  bool without_cas = false;
};

struct WarmReport {
  uint64_t keys = 0; // as the list had
  uint64_t added = 0, present = 0, repaired = 0, deleted = 0;
  uint64_t undone = 0;                // left out, as clients changed them at each try
  uint64_t too_large = 0, failed = 0; // these are left
  uint64_t wide_flags = 0;            // likewise: client flags that the target does not keep
  uint64_t unnamed = 0;      // delete-extra: no line of text can name them, so they are left
  uint64_t gone = 0;         // from the source before they were copied, or about to end there
  uint64_t stale = 0;        // marked as stale at the source
  uint64_t moving = 0;       // repair: written to between the looks
  uint64_t source_gets = 0;  // that the source counts as gets of ours
  uint64_t missed_bytes = 0; // of requests that the mirror will never deliver, since warm began
  uint64_t evicted = 0;      // by the target since warm began
  double seconds = 0, keys_per_s = 0;
  bool dry_run = false;     // nothing was written: what would have been
  bool no_key = false;      // the source has none with the prefix
  bool evicting = false;    // so it was stopped
  bool flushed = false;     // the target was, and not by the mirror
  bool interrupted = false; // by a signal
  std::string stopped;      // why it ended before its time; empty: it did not
};

// What the user is told before it begins and while it runs: a sentence each.
using Tell = std::function<void(const std::string &)>;

// Ends in order when `stop` becomes true: what was copied by then is confirmed.
Result<WarmReport> warm(const WarmOptions &options, const Tell &tell,
                        const std::atomic<bool> &stop);

// Nothing was left out.
bool is_complete(const WarmReport &report);
std::string to_text(const WarmReport &report);
std::string json_text(const WarmReport &report);

} // namespace doppel::migrate
