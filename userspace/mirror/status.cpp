// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/status.h"

#include <linux/capability.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <set>

#include "doppel/names.h"
#include "userspace/kernel/clock.h"
#include "userspace/kernel/hooks.h"
#include "userspace/kernel/host.h"
#include "userspace/kernel/host_net.h"
#include "userspace/kernel/host_view.h"
#include "userspace/kernel/link.h"
#include "userspace/kernel/privileges.h"
#include "userspace/kernel/process.h"
#include "userspace/kernel/tcx.h"
#include "userspace/mirror/blindness.h"
#include "userspace/mirror/changed_routes.h"
#include "userspace/mirror/health.h"
#include "userspace/mirror/in_the_way.h"
#include "userspace/mirror/keeper_word.h"
#include "userspace/mirror/maps.h"
#include "userspace/mirror/unfinished.h"
#include "userspace/mirror/vitals.h"
#include "userspace/plan/plan_checks.h"
#include "userspace/util/text.h"

namespace doppel {
namespace {
// It looks every second, and says every two that it is there where something takes its time. A
// stopped one is told within ten seconds. One that is in a call of the kernel may have to wait for
// the lock of all network devices (rtnl), which others' namespaces keep busy for seconds.
constexpr uint64_t kStoppedPatienceNs = 4'000'000'000;
constexpr uint64_t kKeeperPatienceNs = 30'000'000'000;
// It looks every second. What it saw before that says nothing of now, whyever it has not looked
// since: frozen by a cgroup, held up in a call, without a descriptor left.
constexpr uint64_t kLookPatienceNs = 4'000'000'000;
constexpr char kWayOut[] = "; doppel detach, then attach again";

std::string hook_name(const Attachment &a) { return a.device + " " + direction_name(a.direction); }

// The data plane knows both ends by their numbers.
Status describe_link(Rtnl &nl, const Meta &meta, StatusView &view) {
  const auto link = TRY(find_device(nl, link_of(meta)));
  const auto peer = link ? TRY(find_device(nl, link->peer)) : std::nullopt;
  if (!link || !peer) { // the pair ends as one
    view.missing.push_back(std::string("device ") + (link ? DP_LINK_PEER : DP_LINK) +
                           " is gone: nothing is mirrored" + kWayOut);
    return Unit{};
  }
  for (const auto &[d, name] : {std::pair(&*link, DP_LINK), std::pair(&*peer, DP_LINK_PEER)}) {
    if (d->name != name)
      view.warnings.push_back(std::string("device ") + name + " was renamed to " + d->name +
                              ": the mirror goes on");
    if (!(d->flags & IFF_UP))
      view.missing.push_back("device " + d->name + " is down: copies are lost; ip link set " +
                             d->name + " up");
    else if (d->mtu < kLinkMtu)
      view.warnings.push_back("device " + d->name + " has an MTU of " + std::to_string(d->mtu) +
                              ": longer copies are lost and sent again in pieces");
  }
  return Unit{};
}

// Told where the kernel has no clock, and where somebody removed it.
Status describe_clock(Rtnl &nl, const Meta &meta, StatusView &view) {
  if (!meta.clock)
    view.warnings.push_back(
        no_clock({"the kernel", "had no qdisc htb when the mirror was attached",
                  "load the module sch_htb, doppel detach, then attach again"}));
  else if (!TRY(has_clock(nl, meta.clock)))
    view.problems.push_back({ProblemKind::link,
                             "the qdisc htb of device " DP_LINK_PEER
                             " is gone: what is lost at the end of a conversation waits for its "
                             "next packet",
                             "doppel run makes it again; so does doppel detach, then attach", 0,
                             "clock"});
  return Unit{};
}

// A TCX link lives as long as its device, wherever that is.
bool has_moved(const AttachedProgram &p, const Pins &pins) {
  Fd link = open_pin(pins.link(p.what.program, p.what.ifindex, p.what.direction));
  LinkInfo info;
  return link && link_info(link.get(), &info) && info.ifindex;
}

bool device_is_there(Rtnl &nl, const Attachment &a) {
  const auto d = find_device(nl, a.ifindex);
  return d && *d;
}

// Why a program of ours is not on its hook.
std::string absence(Rtnl &nl, const AttachedProgram &p, const Pins &pins) {
  std::string what = p.what.program + " does not run on " + hook_name(p.what) + ": ";
  const auto named = find_device(nl, p.what.device);
  const bool there = device_is_there(nl, p.what);
  if (!there && named && !*named)
    return what +
           (has_moved(p, pins)
                ? "the device is in another network namespace, where nothing is captured"
                : "the device is gone") +
           kWayOut;
  if (!there)
    return what + "the device was replaced by another of the same name" + kWayOut;
  if (!p.link_id)
    return what + "its filter was removed, by an interrupted detach or by someone else" + kWayOut;
  Fd link = open_pin(pins.link(p.what.program, p.what.ifindex, p.what.direction));
  if (!link && errno != ENOENT)
    return what + "why cannot be seen: " + std::strerror(errno);
  if (!link)
    return what + "the pin of its link was removed" + kWayOut;
  return what + "its link was detached, by an interrupted detach or by someone else" + kWayOut;
}

// Programs of ours that a neighbour may keep packets from, or that stand in the wrong order.
void judge_order(const std::vector<AttachedProgram> &programs, const std::string &hook,
                 StatusView &view) {
  std::string before;
  uint32_t return_at = 0, capture_at = 0;
  for (const auto &p : programs) {
    if (!p.ours) {
      before +=
          (before.empty() ? "" : ", ") +
          (p.what.program == kNoName ? "program " + std::to_string(p.prog_id) : p.what.program);
      continue;
    }
    if (!before.empty())
      view.warnings.push_back(hook + ": " + before + " runs before " + p.what.program +
                              " and may hide packets from it");
    before.clear();
    uint32_t &at = p.what.program == DP_PROG_RETURN ? return_at : capture_at;
    at = p.position;
  }
  if (return_at && capture_at && capture_at < return_at)
    view.warnings.push_back(hook + ": capture runs before return" + kWayOut);
}

Status describe_hooks(Rtnl &nl, const Meta &meta, const Pins &pins, StatusView &view) {
  std::set<std::pair<uint32_t, dp_direction>> seen;
  bool nameless = false;
  for (const auto &p : meta.programs) {
    if (!seen.insert({p.what.ifindex, p.what.direction}).second)
      continue;
    auto programs = list_hook(nl, p.what.hook());
    std::vector<AttachedProgram> present = programs ? *programs : std::vector<AttachedProgram>{};
    view.hooks.insert(view.hooks.end(), present.begin(), present.end());
    nameless |= std::any_of(present.begin(), present.end(),
                            [](const AttachedProgram &one) { return one.what.program == kNoName; });
    judge_order(present, hook_name(p.what), view);
    for (const auto &q : meta.programs) {
      if (q.what.ifindex != p.what.ifindex || q.what.direction != p.what.direction)
        continue;
      bool runs = std::any_of(present.begin(), present.end(),
                              [&](const AttachedProgram &one) { return one.prog_id == q.prog_id; });
      if (!runs && !(q.what.optional && !device_is_there(nl, q.what)))
        view.missing.push_back(absence(nl, q, pins));
    }
  }
  if (nameless && !has_capability(CAP_SYS_ADMIN))
    view.warnings.push_back(std::string("the names of others' programs are shown as ") + kNoName +
                            ": reading them takes CAP_SYS_ADMIN");
  return Unit{};
}

// What runs goes on without its pin. Who comes later needs it: commands run that of
// DP_PROG_COMMAND, and a device that comes gets the program of a pin. A detach that is under way
// removes them all.
void describe_pins(const Pins &pins, const Meta &meta, StatusView &view) {
  std::set<std::string> names{DP_PROG_COMMAND};
  for (const AttachedProgram &p : meta.programs)
    names.insert(p.what.program);
  std::vector<std::string> gone;
  for (const std::string &name : names)
    if (!open_pin_to_read(pins.prog(name)) && errno == ENOENT)
      gone.push_back("the pin " + pins.prog(name) + " was removed: " +
                     (name == DP_PROG_COMMAND
                          ? "no process can close or drain a connection any more, and what is in "
                            "flight at a detach is lost"
                          : "the program cannot be put on a hook again, should it be gone there") +
                     "; doppel reload loads it again");
  if (!gone.empty() && !pins.is_locked() && pins.exist())
    view.missing.insert(view.missing.end(), gone.begin(), gone.end());
}

// What is missing and was not told as a problem yet is one of that kind. The sentence has its hint.
void take_missing(ProblemKind kind, StatusView &view) {
  for (const std::string &sentence : view.missing)
    if (std::none_of(view.problems.begin(), view.problems.end(),
                     [&](const Problem &p) { return p.what == sentence; }))
      view.problems.push_back({kind, sentence, {}, 0, {}});
}

// What no look at the data plane finds, however close.
bool keeper_alone_knows(const Problem &p) {
  return p.kind == ProblemKind::host || p.kind == ProblemKind::neighbour ||
         p.kind == ProblemKind::keeper || p.kind == ProblemKind::note;
}

// True: it is at work, and the word is its own.
bool judge_keeper(const KeeperWord &word, const Vitals &now, StatusView &view) {
  const KeeperView &k = view.keeper;
  Problem p;
  p.kind = ProblemKind::keeper;
  p.key = "keeper";
  const long pid = k.pid > 0 ? k.pid : word.pid;
  const std::string name = "the keeper of this mirror" +
                           (pid > 0 ? " (process " + std::to_string(pid) + ")" : std::string());
  uint64_t quiet_ns = now.now_ns - std::min(now.now_ns, word.said_ns);
  // One that has just begun has said nothing yet: there is no word, or its predecessor's.
  const uint64_t age_ns = k.pid > 0 ? process_age_ns(static_cast<pid_t>(k.pid)) : UINT64_MAX;
  const bool own = word.pid && quiet_ns <= age_ns;
  quiet_ns = std::min(quiet_ns, age_ns);
  const bool stopped = k.pid > 0 && process_is_stopped(static_cast<pid_t>(k.pid));
  if (!k.expected || (k.alive && quiet_ns < (stopped ? kStoppedPatienceNs : kKeeperPatienceNs)))
    return own;
  p.since = unix_time(now.now_ns - quiet_ns, now.now_ns, now.now);
  if (k.alive) {
    p.what = name + (stopped ? " does nothing: it is stopped, by a signal or a debugger"
                             : " does nothing");
    p.hint = stopped ? "kill -CONT " + std::to_string(pid) +
                           " makes it go on: the mirror goes on meanwhile"
                     : "see what it says in its log, and start it again: the mirror goes on "
                       "meanwhile";
  } else {
    p.what = name + " is gone, and nobody looks after the host and what the source ends";
    p.hint = help_of(p.kind).hint;
  }
  view.problems.push_back(std::move(p));
  return false;
}

// What the keeper found of a target is its state: of this one look, there may be nothing to see.
void take_word(const KeeperWord &word, StatusView &view) {
  view.problems.insert(view.problems.end(), word.problems.begin(), word.problems.end());
  for (TargetHealth &t : view.targets) {
    for (const Problem &p : word.problems)
      for (const TargetState s :
           {TargetState::slow, TargetState::hung, TargetState::silent, TargetState::refusing})
        if (p.key == std::string(state_name(s)) + " " + t.mapping + " " + t.target) {
          t.state = s;
          t.since = p.since;
        }
    const auto lost = word.lost.find(target_key(t.mapping, t.target));
    if (lost != word.lost.end())
      t.lost_in_a_minute = lost->second;
  }
}

Status describe_health(const Attached &attached, const FindKeeper &find_keeper, StatusView &view) {
  const auto word = TRY(read_keeper_word(attached.pins));
  view.keeper.pid = find_keeper ? find_keeper(attached.pins) : 0;
  view.keeper.alive = view.keeper.pid != 0;
  view.keeper.expected = word.pid != 0 || view.keeper.alive;
  Looks looks{TRY(read_vitals(attached))};
  const bool kept = judge_keeper(word, looks.back(), view);
  // Then it looks at the mirror all along, which is worth more than one look.
  const bool looks_on = kept && word.looked_ns + kLookPatienceNs > looks.back().now_ns;
  if (kept)
    view.keeper.since = word.since;
  if (looks_on && !word.shortened)
    looks.back().tried = word.tried;
  else // also for what the keeper knows and had no room to tell
    // What its keeper will not tell a moment later is not told now: it is the more patient one.
    looks = TRY(look_closely(attached, kept ? kTargetPatienceNs : kLookNs));
  const auto found = judge(looks);
  view.problems.insert(view.problems.end(), found.begin(), found.end());
  view.targets = judge_targets(looks);
  view.paused = looks.back().paused;
  if (looks_on)
    take_word(word, view);
  else if (kept)
    std::copy_if(word.problems.begin(), word.problems.end(), std::back_inserter(view.problems),
                 keeper_alone_knows);
  return Unit{};
}

// Of a damaged data plane the rest is told all the same.
void tell_health(const Attached &attached, const FindKeeper &find_keeper, StatusView &view) {
  if (auto s = describe_health(attached, find_keeper, view); !s)
    for (const Error &e : s.errors())
      view.problems.push_back({ProblemKind::program, e.where + ": " + e.what, e.hint, 0, {}});
  view.problems = in_order(std::move(view.problems));
}

// What was not looked at is not called well.
Problem of_another_netns(const NetnsId &netns) {
  Problem p;
  const std::string path = way_into(netns.inode);
  if (path.empty() && has_capability(CAP_SYS_PTRACE)) {
    p.kind = ProblemKind::program;
    p.what = "the network namespace that the mirror was attached in is gone, and its hooks and "
             "devices with it: nothing is mirrored";
    p.hint = "doppel detach removes what is left: its pins";
    return p;
  }
  p.kind = ProblemKind::host;
  p.what = "the mirror was attached in another network namespace: its hooks and devices cannot be "
           "seen from here";
  p.hint = path.empty() ? "run doppel status there, or as root here"
                        : "nsenter --net=" + path + " doppel status";
  return p;
}

// Who is at work now has the lock, and will end it.
void tell_interrupted(const Pins &pins, const Meta &meta, StatusView &view) {
  if (!meta.changing || pins.is_locked())
    return;
  if (const auto again = read_meta(pins); again && !again->changing) // it has just been done
    return;
  Problem p;
  p.kind = ProblemKind::remains;
  p.key = "reload";
  p.what =
      "a reload was interrupted: the ports and mappings that are captured may be neither those "
      "of before nor those of " +
      meta.config_source;
  p.hint = "doppel reload does it again, to its end";
  view.problems.push_back(std::move(p));
}

// The keeper looks as well, and is believed: its sentences have other numbers.
void tell_blindness(Host &host, const Meta &meta, StatusView &view) {
  if (std::any_of(view.problems.begin(), view.problems.end(),
                  [](const Problem &p) { return p.kind == ProblemKind::blind; }))
    return;
  const auto blind = find_blindness(host.nl, host.pins, meta);
  if (!blind) {
    view.warnings.push_back("whether requests are missed is not known: " +
                            blind.errors().front().what);
    return;
  }
  for (const std::string &sentence : *blind)
    view.problems.push_back({ProblemKind::blind, sentence, {}, 0, {}});
  view.problems = in_order(std::move(view.problems));
}

// A keeper tells so as well, at its next review.
void tell_local_ports(const Meta &meta, StatusView &view) {
  HostView host;
  if (!view_local_ports(host))
    return;
  const auto taken = ports_of_the_host({meta.limits.port_first, meta.limits.port_last}, host);
  if (!taken || std::any_of(view.problems.begin(), view.problems.end(), [&](const Problem &p) {
        return p.what.find(taken->what) != std::string::npos;
      }))
    return;
  view.problems.push_back(
      {ProblemKind::host, taken->where + ": " + taken->what, taken->hint, 0, {}});
  view.problems = in_order(std::move(view.problems));
}

// A keeper that is at work sees them, and does what they ask for.
void tell_routes(Host &host, const Meta &meta, StatusView &view) {
  if (view.keeper.alive)
    return;
  const auto changed = changed_routes(host.nl, host.pins, meta);
  if (!changed) {
    view.warnings.push_back("whether routes have changed is not known: " +
                            changed.errors().front().what);
    return;
  }
  view.problems.insert(view.problems.end(), changed->begin(), changed->end());
  view.problems = in_order(std::move(view.problems));
}

} // namespace

Result<StatusView> read_status(const FindKeeper &find_keeper) {
  TRY(require_privileges("status"));
  auto host = TRY(Host::open());
  TRY(host.pins.require_sight());
  StatusView view;
  view.now = std::time(nullptr);
  for (const std::string &version : host.pins.other_versions())
    view.warnings.push_back(host.pins.top() + "/" + version +
                            " belongs to another version of doppel: use that one to see it");
  const Meta meta = TRY(settled_meta(host, view));
  const bool locked = host.pins.is_locked();
  if (host.pins.are_read_only())
    view.warnings.push_back("the BPF file system of " + host.pins.top() +
                            " is read-only: the mirror can be looked at, and not be changed");
  if (!meta.complete)
    return view;
  view.attached = true;
  view.since = iso_time(meta.since);
  view.config_source = meta.config_source;
  view.mappings = meta.mappings;
  if (!(current_netns() == meta.netns)) {
    view.problems.push_back(of_another_netns(meta.netns));
    tell_health({host.pins, meta}, find_keeper, view);
    return view;
  }
  TRY(describe_link(host.nl, meta, view));
  take_missing(ProblemKind::link, view);
  if (view.problems.empty())
    TRY(describe_clock(host.nl, meta, view));
  TRY(describe_hooks(host.nl, meta, host.pins, view));
  describe_pins(host.pins, meta, view);
  take_missing(ProblemKind::program, view);
  tell_interrupted(host.pins, meta, view);
  tell_health({host.pins, meta}, find_keeper, view);
  tell_blindness(host, meta, view);
  tell_routes(host, meta, view);
  tell_local_ports(meta, view);
  tell_what_is_in_the_way(host.nl, meta, view);
  tell_detach_under_way(host.pins, locked, view);
  return view;
}

} // namespace doppel
