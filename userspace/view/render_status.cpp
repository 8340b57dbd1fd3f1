// SPDX-License-Identifier: Apache-2.0
// What `doppel status` prints.
#include <algorithm>

#include "userspace/util/text.h"
#include "userspace/view/render.h"
#include "userspace/view/table.h"

namespace doppel {
namespace {
std::string ago(std::time_t now, std::time_t then) {
  return human_ms(static_cast<uint64_t>(std::max<std::time_t>(now - then, 0)) * 1000);
}

// "WHAT, since 2024-05-01T12:34:56+0200 (12.0 s): HINT"
std::string sentence(const Problem &p, std::time_t now) {
  return p.what + (p.since ? ", since " + iso_time(p.since) + " (" + ago(now, p.since) + ")" : "") +
         (p.hint.empty() ? "" : ": " + p.hint) + "\n";
}

// The first line, and what else there is.
std::string problems_text(const StatusView &s) {
  std::string out;
  bool first = true;
  for (const Problem &p : s.problems) {
    const bool note = help_of(p.kind).exit == Exit::ok;
    out += note ? "note: " : first ? "not well: " : "and: ";
    out += sentence(p, s.now);
    first = false;
  }
  if (exit_of(s) == Exit::ok)
    out = "all well\n" + out;
  return s.attached ? out : out + "not attached\n";
}

std::string keeper_text(const StatusView &s) {
  const KeeperView &k = s.keeper;
  if (k.alive)
    return "kept by doppel run" + (k.pid > 0 ? ", process " + std::to_string(k.pid) : "") +
           (k.since ? ", since " + iso_time(k.since) : "");
  return k.expected ? "its keeper is gone" : "no keeper (attached without doppel run)";
}

std::string targets_text(const StatusView &s) {
  Table table({"MAPPING", "TARGET", "STATE", "SINCE", ">WAITS", ">LAST TAKEN", ">LOST",
               ">LOST IN 60 s", "LAST LOSS"});
  for (const TargetHealth &t : s.targets)
    table.row({t.mapping, t.target, state_name(t.state), t.since ? iso_time(t.since) : "-",
               human_bytes(static_cast<int64_t>(t.waits)),
               t.quiet_ms ? human_ms(*t.quiet_ms) + " ago" : "never",
               human_bytes(static_cast<int64_t>(t.lost)),
               t.lost_in_a_minute ? human_bytes(static_cast<int64_t>(*t.lost_in_a_minute)) : "-",
               t.lost_at ? t.lost_reason + ", " + ago(s.now, *t.lost_at) + " ago" : "-"});
  return table.empty() ? "" : table.text() + "\n";
}

std::string hooks_text(const StatusView &s) {
  Table hooks({"DEVICE", "HOOK", ">POS", "PROGRAM", "OURS", "BY", ">PROG ID", ">LINK ID", ">PRIO",
               ">HANDLE"});
  const auto id = [](uint32_t n) { return n == 0 ? std::string("-") : std::to_string(n); };
  for (const AttachedProgram &h : s.hooks)
    hooks.row({h.what.device, direction_name(h.what.direction), std::to_string(h.position),
               h.what.program, h.ours ? "yes" : "no", attach_mode_name(h.mechanism), id(h.prog_id),
               id(h.link_id), id(h.priority), id(h.handle)});
  return hooks.text();
}

} // namespace

std::string to_text(const StatusView &s) {
  std::string out = problems_text(s);
  if (s.attached)
    out += "attached since " + s.since + ", from " + s.config_source + "; " + keeper_text(s) +
           "\n\n" + to_text(s.mappings) + "\n" + targets_text(s) + hooks_text(s);
  for (const std::string &w : s.warnings)
    out += "warning: " + w + "\n";
  return out;
}

} // namespace doppel
