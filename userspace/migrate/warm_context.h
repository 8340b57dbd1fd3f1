// SPDX-License-Identifier: Apache-2.0
// What the parts of warm share.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "userspace/memcached/connection.h"
#include "userspace/migrate/barrier.h"
#include "userspace/migrate/warm.h"
#include "userspace/migrate/warm_list.h"
#include "userspace/migrate/warm_policy.h"
#include "userspace/migrate/warm_requests.h"

namespace doppel::migrate {

struct WarmContext {
  const WarmOptions &options;
  memcached::Connection &source, &target;
  const WarmClock &clock;
  WarmList &list;
  Barrier &barrier;
  WarmReport &report;
  const std::atomic<bool> &stop;
  bool has_cas = true;                        // both have
  bool copies_cas = false;                    // the target knows E
  bool has_me = true;                         // the source does
  uint64_t target_item_max = 0;               // its -I, bytes; 0: not known
  uint64_t target_most_flags = 0;             // the largest client flags that it keeps
  memcached::Evictions target_evictions = {}; // when warm began
  bool refuses_when_full = false; // the target does (-M): a store that fails deletes what was there
  uint64_t settle_ns = 0;
  uint64_t source_flushes = 0, target_flushes = 0; // their flush_all, when warm began
  bool target_has_me = true;
  std::string source_start = {}, target_start = {}; // as incarnation() told them when warm began

  // The same with other options, another list, another stop.
  WarmContext with(const WarmOptions &its_options, WarmList &its_list,
                   const std::atomic<bool> &its_stop) const {
    return {its_options,
            source,
            target,
            clock,
            its_list,
            barrier,
            report,
            its_stop,
            has_cas,
            copies_cas,
            has_me,
            target_item_max,
            target_most_flags,
            target_evictions,
            refuses_when_full,
            settle_ns,
            source_flushes,
            target_flushes,
            target_has_me,
            source_start,
            target_start};
  }
  // What becomes of a copy that something else has changed at the target.
  IfChanged if_changed() const {
    return barrier.converges() ? IfChanged::leave : has_cas ? IfChanged::compare : IfChanged::drop;
  }
  // Of a key that changes each time.
  uint8_t most_tries() const {
    return if_changed() == IfChanged::leave ? kTriesConverging : kTries;
  }
  // A read took a token of a client's, which ends it: no other is risked.
  bool has_token() const { return !report.stopped.empty(); }
  // Nothing new is begun any more.
  bool is_stopping() const { return stop || report.evicting || !report.stopped.empty(); }
};

// What the target has evicted since warm began, by its statistics of now.
uint64_t note_evictions(const WarmContext &c, const memcached::Stats &target);

// A read took the token of an item that is marked as stale: nothing more is begun, but with
// --stale-ok.
void note_token(const WarmContext &c);

// read_answer() of the source's, and what it cost there: a get, and perhaps a token.
std::optional<ReadItem> read_source(const WarmContext &c, const memcached::Answer &answer,
                                    uint32_t opaque);

// One more key has come to that.
void count(WarmReport &report, Outcome outcome);

// Waits for everything that is on its way now; false: it was interrupted. An error if the mirror is
// not there any more.
Result<bool> pass(const WarmContext &c);

Error no_answer(const memcached::Connection &c, std::string_view line);

} // namespace doppel::migrate
