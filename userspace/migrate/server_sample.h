// SPDX-License-Identifier: Apache-2.0
// What a memcached says of itself at one moment, and what happened between two of them. Pure.
#pragma once

#include <cstdint>
#include <optional>

#include "userspace/memcached/stats.h"

namespace doppel::migrate {

struct ServerSample {
  uint64_t at_ns = 0;    // CLOCK_MONOTONIC, when it was read
  uint64_t pid = 0;      // another one: it was started anew
  uint64_t uptime_s = 0; // goes back then as well
  uint64_t gets = 0, hits = 0, misses = 0, sets = 0, evictions = 0; // since its start
  uint64_t flash_misses = 0;           // among `hits`, as memcached counts them
  uint64_t bytes = 0, limit = 0;       // of items; what they may take
  uint64_t items = 0, connections = 0; // at present
  uint64_t accepted = 0, stored = 0, read = 0, written = 0; // connections, items, bytes
  std::optional<uint64_t> answer_us; // round trip of a command that does nothing
};

// Of the general statistics. `at_ns` and `answer_us` are the caller's.
ServerSample sample_of(const memcached::Stats &stats);

// Of the items' memory; nothing: the server does not say what it may take.
std::optional<double> usage_of(const ServerSample &sample);

// What happened between two samples of one server.
struct ServerWindow {
  uint64_t over_ns = 0;
  uint64_t gets = 0, hits = 0, misses = 0, sets = 0, evictions = 0;
};

// Nothing: it was started anew meanwhile, or its statistics were reset.
std::optional<ServerWindow> between(const ServerSample &before, const ServerSample &after);

// Hits of hits and misses. Nothing: nobody asked.
std::optional<double> hit_ratio(const ServerWindow &window);

// Of the gets that hit on the source, the share that hits on the target: what a switch at this
// moment would keep. The target is asked the same, so gets that it has not seen count as misses.
// Nothing: no get of the window hit on the source.
std::optional<double> warmth(const ServerWindow &source, const ServerWindow &target);

// The target counted more gets than its source, `late` aside: those that were on their way to it
// when the window began. Then nobody knows whose its hits are.
bool is_asked_by_others(const ServerWindow &source, const ServerWindow &target, uint64_t late);

} // namespace doppel::migrate
