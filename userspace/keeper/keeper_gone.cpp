// SPDX-License-Identifier: Apache-2.0
// How the keeper knows whether the mirror that it keeps is still there.
#include <algorithm>

#include "userspace/keeper/keeper.h"
#include "userspace/kernel/hooks.h"
#include "userspace/kernel/link.h"
#include "userspace/kernel/rtnl.h"

namespace doppel {
namespace {
std::string file_system_of(const Pins &pins) { return pins.top().substr(0, pins.top().rfind('/')); }

Problem no_pins(const Pins &pins) {
  Problem p;
  p.kind = ProblemKind::keeper;
  p.what = "the pins of this mirror are not in " + pins.top() +
           " any more: another BPF file system is mounted over them; the mirror goes on, and the "
           "keeper can put nothing right";
  p.hint = "umount " + file_system_of(pins) + ", as often as it was mounted since";
  p.key = "pins";
  return p;
}

Problem read_only_pins(const Pins &pins) {
  Problem p;
  p.kind = ProblemKind::keeper;
  p.what = "the BPF file system " + file_system_of(pins) +
           " is read-only: the mirror goes on, and the keeper can put nothing right";
  p.hint = "mount -o remount,rw " + file_system_of(pins);
  p.key = "read-only pins";
  return p;
}

} // namespace

// A detach takes the pins last, so that nothing runs any more when they are gone. Where it is the
// same file system, somebody has removed them by hand.
Result<bool> Keeper::runs_unseen(const Pins &pins) const {
  if (pins.exist())
    return false;
  auto nl = TRY(Rtnl::open());
  const auto link = TRY(find_device(nl, link_of(meta_)));
  if (!link || noted_on(*link) == pins.file_system())
    return false;
  return std::any_of(meta_.programs.begin(), meta_.programs.end(), [&](const AttachedProgram &p) {
    const auto programs = list_hook(nl, p.what.hook());
    return programs &&
           std::any_of(programs->begin(), programs->end(),
                       [&](const AttachedProgram &one) { return one.prog_id == p.prog_id; });
  });
}

bool Keeper::is_gone(const Pins &pins) const {
  if (!pins.exist()) {
    const auto runs = runs_unseen(pins);
    return runs && !*runs;
  }
  const uint32_t id = mirror_id(pins);
  return id && id != meta_.id;
}

// There may be nothing left to keep, or a mirror that somebody else attached since: this process
// was stopped (SIGSTOP), or busy, while another one detached. That one is none of its business.
bool Keeper::was_detached() {
  if (!attached_ || waiting_ || detached_)
    return detached_;
  const auto pins = Pins::locate();
  if (!pins || !is_gone(*pins))
    return false;
  const auto lock = pins->lock(pause()); // who is changing it at this moment may put it back
  detached_ = lock && is_gone(*pins);
  if (detached_)
    pins->remove_top_if_empty();
  return detached_;
}

// What it would do to the data plane needs the pins; what it holds open works without.
bool Keeper::lost_sight_of_pins() {
  const auto pins = Pins::locate();
  if (!pins)
    return false;
  const auto unseen = runs_unseen(*pins);
  if (unseen)
    found(kPins, *unseen ? std::vector<Problem>{no_pins(*pins)} : std::vector<Problem>{});
  return problems_.any_of(kPins);
}

// It can be looked at, and nothing be changed: what is missing would be attached in vain, and a
// detach would come half-way. No event tells when that is over.
bool Keeper::pins_are_read_only() {
  const auto pins = Pins::locate();
  const bool was = problems_.any_of(kReadOnly);
  if (!pins || !pins->exist())
    return was;
  const bool are = pins->are_read_only();
  found(kReadOnly, are ? std::vector<Problem>{read_only_pins(*pins)} : std::vector<Problem>{});
  if (was && !are)
    review_soon();
  return are;
}

} // namespace doppel
