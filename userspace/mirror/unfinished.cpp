// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/unfinished.h"

#include <chrono>
#include <thread>
#include <vector>

#include "doppel/names.h"
#include "userspace/mirror/teardown.h"

namespace doppel {
namespace {
// An attach takes a second or two, for the kernel's verifier above all.
constexpr auto kChangePatience = std::chrono::seconds(5);
constexpr auto kChangePoll = std::chrono::milliseconds(50);
using Clock = std::chrono::steady_clock;

// Unlocked before a reading and after it: nobody was at work in between.
Result<Meta> read_settled(const Pins &pins, Clock::time_point until) {
  for (bool idle = false;;) {
    Meta meta;
    if (pins.exist())
      meta = TRY(find_meta(pins)).meta.value_or(Meta{});
    const bool changing = !meta.complete && pins.is_locked();
    if (meta.complete || (idle && !changing) || (changing && Clock::now() >= until))
      return meta;
    idle = !changing;
    if (changing)
      std::this_thread::sleep_for(kChangePoll);
  }
}

Problem as_problem(const Remains &remains, bool changing, const Host &host) {
  Problem p;
  p.kind = ProblemKind::remains;
  p.key = "remains";
  if (changing) {
    p.what = "somebody is attaching or detaching right now: there are " + remains.text();
    p.hint = "ask again when that is done";
  } else if (remains.pins_elsewhere) {
    p.what = remains.elsewhere(host.pins.top());
    p.hint = remains.pins_at.empty()
                 ? "look at it there; if a BPF file system was mounted over the pins, umount it"
                 : "doppel --bpffs " + remains.pins_at + " status";
  } else if (!host.pins.other_versions().empty()) {
    p.what = "another version of doppel has a mirror here, or left it: " + remains.text();
    p.hint = "doppel run takes over, doppel detach --force ends it";
  } else {
    p.what = "nothing is attached, but there are remains: " + remains.text();
    p.hint = help_of(ProblemKind::remains).hint;
  }
  return p;
}

bool is_capture_missing(const std::string &sentence) {
  return sentence.starts_with(DP_PROG_INGRESS " does not run") ||
         sentence.starts_with(DP_PROG_EGRESS " does not run");
}

} // namespace

void tell_detach_under_way(const Pins &pins, bool locked, StatusView &view) {
  const std::string holder = pins.lock_holder();
  if (!view.paused || (!locked && !pins.is_locked()))
    return;
  std::erase_if(view.missing, is_capture_missing);
  std::erase_if(view.problems, [](const Problem &p) { return is_capture_missing(p.what); });
  for (Problem &p : view.problems)
    if (p.kind == ProblemKind::paused) {
      p.what = "a detach is under way" + (holder.empty() ? "" : ", by " + holder) +
               ": no new connection is mirrored, and what was captured is being drained";
      p.hint =
          holder.ends_with("stopped") ? "kill -CONT lets it go on" : "ask again when that is done";
    }
}

Result<Meta> settled_meta(Host &host, StatusView &view) {
  const auto until = Clock::now() + kChangePatience;
  for (;;) {
    auto meta = TRY(read_settled(host.pins, until));
    if (meta.complete)
      return meta;
    const auto remains = TRY(find_remains(host.nl, &host.pins));
    const bool changing = host.pins.is_locked(); // somebody may just have begun
    if (remains.any() && changing && Clock::now() < until)
      continue;
    if (remains.any())
      view.problems.push_back(as_problem(remains, changing, host));
    return meta;
  }
}

} // namespace doppel
