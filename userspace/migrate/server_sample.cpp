// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/server_sample.h"

#include <algorithm>

namespace doppel::migrate {
using memcached::number;

ServerSample sample_of(const memcached::Stats &stats) {
  ServerSample s;
  s.pid = number(stats, "pid");
  s.uptime_s = number(stats, "uptime");
  // What reads and touches at once (`gat`, `mg` with T) counts as a touch where it hits, and `mg`
  // with T as a get where it misses.
  s.gets = number(stats, "cmd_get") + number(stats, "cmd_touch");
  s.hits = number(stats, "get_hits") + number(stats, "touch_hits");
  s.misses = number(stats, "get_misses") + number(stats, "touch_misses");
  s.sets = number(stats, "cmd_set");
  s.evictions = memcached::evictions(stats).all();
  s.flash_misses = memcached::flash_misses(stats);
  s.accepted = number(stats, "total_connections");
  s.stored = number(stats, "total_items");
  s.read = number(stats, "bytes_read");
  s.written = number(stats, "bytes_written");
  s.bytes = number(stats, "bytes");
  s.limit = number(stats, "limit_maxbytes");
  s.items = number(stats, "curr_items");
  s.connections = number(stats, "curr_connections");
  return s;
}

std::optional<double> usage_of(const ServerSample &s) {
  if (!s.limit)
    return std::nullopt;
  return static_cast<double>(s.bytes) / static_cast<double>(s.limit);
}

std::optional<ServerWindow> between(const ServerSample &before, const ServerSample &after) {
  if (before.pid != after.pid || after.uptime_s < before.uptime_s || after.gets < before.gets ||
      after.hits < before.hits || after.misses < before.misses || after.sets < before.sets ||
      after.evictions < before.evictions || after.flash_misses < before.flash_misses ||
      after.accepted < before.accepted || after.stored < before.stored ||
      after.read < before.read || after.written < before.written)
    return std::nullopt;
  ServerWindow w;
  w.over_ns = after.at_ns - std::min(after.at_ns, before.at_ns);
  w.gets = after.gets - before.gets;
  const uint64_t hits = after.hits - before.hits;
  // Counted behind the read, so that some may be of hits before the window.
  const uint64_t lost = std::min(hits, after.flash_misses - before.flash_misses);
  w.hits = hits - lost;
  w.misses = after.misses - before.misses + lost;
  w.sets = after.sets - before.sets;
  w.evictions = after.evictions - before.evictions;
  return w;
}

std::optional<double> hit_ratio(const ServerWindow &w) {
  const uint64_t asked = w.hits + w.misses;
  if (!asked)
    return std::nullopt;
  return static_cast<double>(w.hits) / static_cast<double>(asked);
}

std::optional<double> warmth(const ServerWindow &source, const ServerWindow &target) {
  const auto ours = hit_ratio(source);
  if (!ours || *ours == 0)
    return std::nullopt;
  const uint64_t asked = std::max(source.hits + source.misses, target.hits + target.misses);
  return std::min(1.0, static_cast<double>(target.hits) / static_cast<double>(asked) / *ours);
}

bool is_asked_by_others(const ServerWindow &source, const ServerWindow &target, uint64_t late) {
  // The two are not asked at the very same moments: a hundredth, and a few where few are asked.
  constexpr uint64_t kShare = 100, kFew = 64;
  const uint64_t ours = source.hits + source.misses, theirs = target.hits + target.misses;
  return theirs > ours && theirs - ours > late + ours / kShare + kFew;
}

} // namespace doppel::migrate
