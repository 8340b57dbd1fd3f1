// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <nlohmann/json.hpp>

#include "userspace/migrate/warm.h"

namespace doppel::migrate {
namespace {
std::string row(const char *name, uint64_t n, const char *what) {
  char line[160];
  std::snprintf(line, sizeof(line), "%-10s %12llu  %s\n", name, static_cast<unsigned long long>(n),
                what);
  return line;
}

std::string row_if(const char *name, uint64_t n, const char *what) {
  return n ? row(name, n, what) : "";
}

} // namespace

bool is_complete(const WarmReport &r) {
  return r.undone + r.too_large + r.wide_flags + r.failed + r.unnamed == 0 && !r.evicting &&
         !r.flushed && !r.interrupted && r.stopped.empty() && !r.no_key;
}

std::string to_text(const WarmReport &r) {
  std::string text = row("keys", r.keys, "in the source's list") +
                     row("added", r.added, r.dry_run ? "would be copied" : "copied and confirmed") +
                     row("present", r.present, "were there");
  text += row_if("repaired", r.repaired,
                 r.dry_run ? "would be replaced, as they differ" : "replaced, as they differed");
  text += row_if("deleted", r.deleted,
                 r.dry_run ? "would be deleted: the source does not have them"
                           : "the source did not have them");
  text += row_if("gone", r.gone, "ended or were deleted at the source meanwhile");
  text += row_if("moving", r.moving, "not compared, as they were written to all the time");
  text += row_if("stale", r.stale, "marked as stale at the source: not copied");
  text += row_if("undone", r.undone, "left out, as clients changed them at each try");
  text += row_if("too_large", r.too_large, "larger than the target takes (its -I)");
  text +=
      row_if("wide_flags", r.wide_flags, "their client flags take more bits than the target has");
  text += row_if("failed", r.failed, "the target or the source refused");
  text += row_if("unnamed", r.unnamed, "left at the target: their names fit in no line of text");
  if (r.evicting)
    text += "The target evicts: its memory is too small for more. Nothing more was copied.\n";
  if (r.flushed)
    text += "The target was flushed meanwhile (flush_all): what was copied before is gone. Warm "
            "anew.\n";
  if (!r.stopped.empty())
    text += "Stopped: " + r.stopped + ".\n";
  if (r.interrupted)
    text += r.dry_run ? "Interrupted.\n" : "Interrupted: what was copied is confirmed.\n";
  if (r.missed_bytes)
    text += std::to_string(r.missed_bytes) +
            " bytes of requests will not reach the target; a delete may be among them: "
            "doppel verify tells.\n";
  char line[96];
  std::snprintf(line, sizeof(line), "%.1f s, %.0f keys/s\n", r.seconds, r.keys_per_s);
  return text + line;
}

std::string json_text(const WarmReport &r) {
  nlohmann::ordered_json j;
  j["keys"] = r.keys;
  j["added"] = r.added;
  j["present"] = r.present;
  j["repaired"] = r.repaired;
  j["deleted"] = r.deleted;
  j["undone"] = r.undone;
  j["too_large"] = r.too_large;
  j["wide_flags"] = r.wide_flags;
  j["failed"] = r.failed;
  j["unnamed"] = r.unnamed;
  j["gone"] = r.gone;
  j["stale"] = r.stale;
  j["moving"] = r.moving;
  j["evicting"] = r.evicting;
  j["evicted"] = r.evicted;
  j["flushed"] = r.flushed;
  j["interrupted"] = r.interrupted;
  j["stopped"] = r.stopped;
  j["missed_bytes"] = r.missed_bytes;
  j["source_gets"] = r.source_gets;
  j["seconds"] = r.seconds;
  j["keys_per_s"] = r.keys_per_s;
  return j.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

} // namespace doppel::migrate
