// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/drain.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <chrono>
#include <vector>

#include "doppel/abi.h"
#include "userspace/mirror/command.h"
#include "userspace/mirror/maps.h"

namespace doppel {
namespace {
constexpr auto kFirstPause = std::chrono::milliseconds(2);
constexpr auto kLongestPause = std::chrono::milliseconds(50);

// A shadow that is to end.
struct OpenShadow {
  uint32_t slot, gen;
  uint32_t rcv_nxt; // behind what the target had answered when half of the time was over
};

// The target's TCP has acknowledged requests, and its service may not have read them yet: it has
// answered nothing since, or answers still. Our RST lets it read them, but fails its answers, and
// then it closes.
bool is_owed(const dp_shadow &now, const OpenShadow &then) {
  return now.tcp.delivered && !(now.tcp.flags & DP_SH_TARGET_FIN) &&
         ((now.tcp.flags & DP_SH_OWED) || now.tcp.rcv_nxt != then.rcv_nxt);
}

} // namespace

Result<bool> is_paused(const Pins &pins) {
  auto control = TRY(open_table(pins, "control", sizeof(dp_control), Access::read));
  dp_control value{};
  const uint32_t key = 0;
  if (bpf_map_lookup_elem(control.fd.get(), &key, &value))
    return sys_error("map control", "cannot be read", errno);
  return value.paused != 0;
}

Status set_paused(const Pins &pins, bool paused) {
  auto control = TRY(open_table(pins, "control", sizeof(dp_control)));
  dp_control value{};
  value.paused = paused;
  uint32_t key = 0;
  if (bpf_map_update_elem(control.fd.get(), &key, &value, BPF_ANY))
    return sys_error("map control", "cannot be written", errno);
  return Unit{};
}

Status command_shadows(const Pins &pins, dp_command op,
                       const std::function<bool(const dp_shadow &)> &wanted) {
  auto shadows = TRY(open_table(pins, "shadows", sizeof(dp_shadow), Access::read));
  auto program = TRY(CommandProgram::open(pins));
  return each_shadow(shadows, [&](uint32_t slot, const dp_shadow &s) -> Status {
    if (is_over(s) || !wanted(s))
      return Unit{};
    return program.shadow(op, slot, s.gen);
  });
}

Result<Drained> drain_shadows(const Pins &pins, uint32_t wait_ms, const Pause &pause,
                              const std::function<bool(const dp_shadow &)> &wanted) {
  auto shadows = TRY(open_table(pins, "shadows", sizeof(dp_shadow), Access::read));
  auto program = TRY(CommandProgram::open(pins));
  std::vector<OpenShadow> open;
  TRY(each_shadow(shadows, [&](uint32_t slot, const dp_shadow &s) -> Status {
    if (!is_over(s) && (!wanted || wanted(s)))
      open.push_back({slot, s.gen, s.tcp.rcv_nxt});
    return Unit{};
  }));

  Drained drained;
  for (const OpenShadow &s : open)
    TRY(program.shadow(DP_CMD_CLOSE, s.slot, s.gen));
  // Over, or looked after: there may be no keeper to resend what the target has missed.
  auto finished = [&](const OpenShadow &s) {
    auto now = read_shadow(shadows, s.slot);
    if (!now || now->gen != s.gen || is_over(*now))
      return true;
    if (now->tcp.flags & DP_SH_DUE)
      (void)program.shadow(DP_CMD_RESEND, s.slot, s.gen);
    return false;
  };
  using Clock = std::chrono::steady_clock;
  const auto until = Clock::now() + std::chrono::milliseconds(wait_ms);
  auto half = until - std::chrono::milliseconds(wait_ms / 2);
  for (auto wait = kFirstPause;; wait = std::min(2 * wait, kLongestPause)) {
    drained.closed += static_cast<uint32_t>(std::erase_if(open, finished));
    const auto now = Clock::now();
    if (open.empty() || now >= until)
      break;
    if (now >= half) { // by then the answers of a target that keeps up are there
      half = until;
      for (OpenShadow &s : open)
        if (const auto shadow = read_shadow(shadows, s.slot))
          s.rcv_nxt = shadow->tcp.rcv_nxt;
    }
    pause_for(pause, wait);
  }
  for (const OpenShadow &s : open) {
    const auto now = read_shadow(shadows, s.slot);
    drained.owed += now && now->gen == s.gen && is_owed(*now, s);
    TRY(program.shadow(DP_CMD_RESET, s.slot, s.gen));
    drained.reset++;
  }
  return drained;
}

} // namespace doppel
