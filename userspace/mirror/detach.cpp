// SPDX-License-Identifier: Apache-2.0
// Order: capture ends first, so that nothing new comes; the shadows drain while return still
// hears the target; then everything goes. Each step works without the ones before.
#include "userspace/mirror/detach.h"

#include <linux/capability.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <set>

#include "doppel/names.h"
#include "userspace/kernel/cpus.h"
#include "userspace/kernel/descriptors.h"
#include "userspace/kernel/pins.h"
#include "userspace/kernel/privileges.h"
#include "userspace/mirror/counters.h"
#include "userspace/mirror/drain.h"
#include "userspace/mirror/other_version.h"
#include "userspace/mirror/teardown.h"
#include "userspace/view/judge_target.h"
#include "userspace/view/render.h"

namespace doppel {
namespace {
namespace fs = std::filesystem;

bool is_capture(const AttachedProgram &p) {
  return p.what.program == DP_PROG_INGRESS || p.what.program == DP_PROG_EGRESS;
}

// Hooks and devices of another network namespace are out of reach. If that namespace is gone, so
// are they, and the pins are all that is left.
Status check_netns(const Meta &meta) {
  NetnsId here = current_netns();
  if (here == meta.netns || !meta.netns.inode)
    return Unit{};
  std::string path = way_into(meta.netns.inode);
  if (path.empty() && !has_capability(CAP_SYS_PTRACE)) // /proc/PID/ns is closed to us
    return Error{"doppel detach",
                 "the mirror was attached in another network namespace, and whether that one still "
                 "exists can only be seen with CAP_SYS_PTRACE",
                 "run it as root: sudo doppel detach"};
  if (path.empty() || meta.netns.inode == here.inode)
    return Unit{};
  return Error{"doppel detach", "the mirror was attached in another network namespace",
               "nsenter --net=" + path + " doppel detach"};
}

// The process of this network namespace in whose mount namespace the pins are; empty: none is seen.
std::string holder_of_pins() {
  struct stat st;
  const uint64_t own = ::stat("/proc/self/ns/mnt", &st) ? 0 : st.st_ino;
  std::error_code ec;
  for (fs::directory_iterator it("/proc", ec), end; !ec && it != end; it.increment(ec)) {
    const fs::path process = it->path();
    std::error_code unseen; // by another user, or ended meanwhile
    if (!std::isdigit(static_cast<unsigned char>(process.filename().string().front())))
      continue; // also "self", which is whoever reads it
    if (has_inode(process / "ns/net", current_netns().inode) &&
        !has_inode(process / "ns/mnt", own) &&
        fs::is_directory(process / "root/sys/fs/bpf/" DP_PIN_DIR, unseen))
      return process.filename();
  }
  return {};
}

Error pins_unseen(const Remains &remains, const Pins *pins) {
  if (!remains.pins_at.empty())
    return Error{"doppel detach",
                 "a mirror runs here (" + remains.text() + "), and its pins are in " +
                     remains.pins_at + ", not in " + pins->top(),
                 "doppel --bpffs " + remains.pins_at + " detach"};
  const std::string pid = holder_of_pins();
  return Error{"doppel detach",
               "a mirror runs here (" + remains.text() + "), and its pins are not in " +
                   (pins ? pins->top() : "a BPF file system of this mount namespace") +
                   ": it was attached from another mount namespace",
               (pid.empty() ? "detach where it was attached"
                            : "nsenter --target " + pid + " --mount doppel detach") +
                   "; doppel detach --force ends it from here, undrained and without its ledger"};
}

Error not_drained(const Error &why) {
  return {"doppel detach",
          "what was in flight could not be drained, and counts as lost: " + why.where + ": " +
              why.what,
          why.hint};
}

uint64_t lost_of(const Counters &counters) {
  uint64_t sum = 0;
  each_row(counters,
           [&](const auto &, const auto &, const dp_ledger &l) { sum += sum_of(l.lost); });
  return sum;
}

// What a detach that was interrupted has counted already.
uint64_t detached_of(const Counters &counters) {
  uint64_t sum = 0;
  each_row(counters, [&](const auto &, const auto &, const dp_ledger &l) {
    sum += l.lost[DP_LOST_detached];
  });
  return sum;
}

// No shadow is left that could deliver it, whether somebody could tell the data plane or not.
void end_what_is_in_flight(Counters &last) {
  for (MappingCounters &m : last.mappings)
    for (TargetCounters &t : m.targets) {
      t.sum.lost[DP_LOST_detached] += static_cast<uint64_t>(std::max<int64_t>(t.sum.in_flight, 0));
      t.sum.in_flight = 0;
    }
}

// What it needs at most at one time, from the first change on.
constexpr size_t kDescriptors = 16;

// What stands in the way of an end in order, and can be mended: nothing was changed yet. What is
// gone for good (ENOENT) holds nobody up: the rest is to go all the more.
Status check_means(const Pins &pins, bool complete) {
  if (pins.are_read_only())
    return Error{pins.top(), "the BPF file system is read-only: nothing can be removed from it",
                 "mount -o remount,rw " + fs::path(pins.top()).parent_path().string()};
  if (!complete)
    return Unit{};
  TRY(possible_cpus());
  for (const std::string &path :
       {pins.map("meta"), pins.map("control"), pins.map("shadows"), pins.map("ledger"),
        pins.map("fresh_chunks"), pins.map("mappings"), pins.map("converge"),
        pins.prog(DP_PROG_COMMAND)})
    if (!open_pin(path) && errno != ENOENT)
      return sys_error(path, "cannot be opened", errno);
  return Unit{};
}

// Best effort: an incomplete data plane cannot be drained, but it can be removed. In the end it is
// one: whoever comes after an interrupted removal has nothing left to drain.
void close_down(Rtnl &nl, const Pins &pins, Meta meta, const Remains &remains, uint32_t drain_ms,
                const Pause &pause, std::set<uint32_t> &made_qdisc, DetachReport &report) {
  Errors &errors = report.errors;
  // What is lost of an interrupted detach, which this one ends, is told by this one.
  const auto goes_on = is_paused(pins);
  if (meta.complete)
    collect(set_paused(pins, true), errors);
  end_programs(nl, remains.programs, is_capture, made_qdisc, errors);
  if (!meta.complete)
    return;
  const auto first = read_counters_of({pins, meta});
  // Without its link the data plane can send nothing: waiting would be in vain.
  auto drained = drain_shadows(pins, !remains.link.empty() ? drain_ms : 0, pause);
  if (!drained)
    errors.push_back(not_drained(drained.errors().front()));
  if (drained) {
    report.closed = drained->closed;
    report.reset = drained->reset;
    report.owed = drained->owed;
  }
  auto last = read_counters_of({pins, meta});
  collect(last, errors);
  report.ledger = last && true;
  if (last)
    report.last = std::move(*last);
  end_what_is_in_flight(report.last);
  const uint64_t lost = lost_of(report.last), before = first ? lost_of(*first) : lost;
  report.lost = lost - std::min(lost, before);
  if (goes_on && *goes_on)
    report.lost = std::max(report.lost, detached_of(report.last));
  meta.complete = false;
  collect(write_meta(pins, meta), errors);
}

// What cannot be closed in order ends at once: no error, as all of it goes.
void end_other_version(Rtnl &nl, const Pins &pins, uint32_t drain_ms, const Pause &pause,
                       DetachReport &report, Errors &errors) {
  std::set<uint32_t> made_qdisc;
  (void)pause_other_version(pins);
  const auto programs = find_ours(nl);
  if (programs)
    end_programs(nl, *programs, is_capture, made_qdisc, errors);
  if (const auto drained = drain_other_version(pins, drain_ms, pause)) {
    report.closed += drained->closed;
    report.reset += drained->reset;
  }
  remove_everything(nl, &pins, made_qdisc, errors);
}

} // namespace

Result<DetachReport> detach(uint32_t drain_ms, const Pause &pause, bool force) {
  TRY(require_privileges("detach"));
  auto nl = TRY(Rtnl::open());
  // Without bpffs there are no pins, but filters of clsact and the link may be left.
  std::optional<Pins> pins;
  std::optional<Fd> lock;
  if (auto found = Pins::locate()) {
    pins = *found;
    lock = TRY(pins->lock(pause));
  }
  const Pins *p = pins ? &*pins : nullptr;
  TRY(require_descriptors("doppel detach", kDescriptors));
  DetachReport report;
  Errors &errors = report.errors;
  const auto others = p ? p->other_versions() : std::vector<std::string>{};
  if (!others.empty() && !p->exist() && !force)
    return Error{p->top() + "/" + others.front(), "another version of doppel is attached",
                 "detach with that version, or doppel detach --force if it is gone"};
  auto remains = TRY(find_remains(nl, p));
  if (!force && remains.pins_elsewhere)
    return pins_unseen(remains, p);
  FoundMeta found;
  if (remains.pins) {
    auto read = find_meta(*p);
    if (!read && !force)
      return read.errors();
    if (read)
      found = std::move(*read);
    TRY(check_means(*p, found.meta && found.meta->complete && !force));
  }
  const Meta meta = found.meta.value_or(Meta{});
  TRY(check_netns(meta));
  if (force && !others.empty()) {
    for (const std::string &other : others) {
      report.was_attached = true;
      end_other_version(nl, p->of_version(other), drain_ms, pause, report, errors);
    }
    remains = TRY(find_remains(nl, p));
  }
  report.was_attached |= remains.any();
  std::set<uint32_t> made_qdisc;
  if (remains.pins) {
    made_qdisc.insert(meta.made_qdisc.begin(), meta.made_qdisc.end());
    close_down(nl, *p, meta, remains, drain_ms, pause, made_qdisc, report);
  }
  remove_everything(nl, p, made_qdisc, errors);
  return report;
}

} // namespace doppel
