// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/stats.h"

#include "userspace/util/text.h"

namespace doppel::memcached {
namespace {
// A count that is lower than before was begun anew.
uint64_t since(uint64_t now, uint64_t before) { return now < before ? now : now - before; }

} // namespace

Result<Stats> stats(Connection &c, const std::string &what) {
  Stats all;
  std::string other;
  TRY(c.converse("stats" + (what.empty() ? "" : " " + what) + "\r\n", [&](const Answer &a) {
    std::string_view line = a.line;
    if (!line.starts_with("STAT ")) {
      if (line != "END" && line != "RESET")
        other = line;
      return false;
    }
    line.remove_prefix(5);
    const size_t blank = line.find(' ');
    all.emplace(line.substr(0, blank),
                blank == std::string_view::npos ? "" : line.substr(blank + 1));
    return true;
  }));
  if (!other.empty())
    return Error{c.server().text(), "does not tell its stats " + what + ": " + quoted_answer(other),
                 "", Exit::failure};
  return all;
}

uint64_t number(const Stats &stats, const std::string &name) {
  const auto found = stats.find(name);
  return found == stats.end() ? 0 : parse_number(found->second, UINT64_MAX).value_or(0);
}

uint64_t most_flags(const Stats &settings) {
  return number(settings, "client_flags_size") == sizeof(uint64_t) ? UINT64_MAX : UINT32_MAX;
}

Evictions evictions(const Stats &general) {
  return {number(general, "evictions") + number(general, "slab_reassign_evictions_nomem"),
          number(general, "extstore_objects_evicted")};
}

uint64_t evictions_since(const Stats &general, const Evictions &before) {
  const Evictions now = evictions(general);
  return since(now.memory, before.memory) + since(now.flash, before.flash);
}

uint64_t flash_limit(const Stats &general) { return number(general, "extstore_limit_maxbytes"); }

uint64_t flash_misses(const Stats &general) { return number(general, "miss_from_extstore"); }

uint64_t flushes_since(const Stats &general, uint64_t before) {
  return since(number(general, "cmd_flush"), before);
}

uint64_t pending_flush_s(const Stats &general, const Stats &settings) {
  // `uptime` is told less ITEM_UPDATE_INTERVAL (stats.c, memcached.h), and `oldest` is not. Of a
  // flush that is done it is the second before.
  constexpr uint64_t kAhead = 60;
  const uint64_t at = number(settings, "oldest"), now = number(general, "uptime") + kAhead;
  return at > now ? at - now : 0;
}

Status no_pending_flush(const Connection &c, const Stats &general, const Stats &settings) {
  const uint64_t left = pending_flush_s(general, settings);
  if (left == 0)
    return Unit{};
  return Error{c.server().text(),
               "a flush_all with a delay is pending there: in " + std::to_string(left) +
                   " s nothing that it holds now can be read any more",
               "wait until it is over; flush_all 0 now is the same sooner", Exit::failure};
}

} // namespace doppel::memcached
