// SPDX-License-Identifier: Apache-2.0
#include "userspace/drain.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "doppel/abi.h"
#include "doppel/names.h"
#include "userspace/maps.h"

namespace doppel {

namespace {

constexpr auto kFirstPause = std::chrono::milliseconds(2);
constexpr auto kLongestPause = std::chrono::milliseconds(50);

struct Live {
  uint32_t slot, gen;
};

// The smallest Ethernet frame with IPv4 and TCP headers: BPF_PROG_RUN wants a packet, and the
// program uses it as the material of what it sends.
struct Frame {
  uint8_t bytes[60] = {};
  Frame() {
    bytes[12] = 0x08; // ETH_P_IP
    bytes[14] = 0x45; // IPv4, header of 5 words
    bytes[17] = 40;   // total length
    bytes[22] = 64;   // time to live
    bytes[23] = 6;    // IPPROTO_TCP
    bytes[46] = 0x50; // TCP header of 5 words
  }
};

int poke(int prog_fd, const Live &shadow, dp_poke_op op) {
  Frame frame;
  __sk_buff ctx{};
  ctx.cb[0] = op;
  ctx.cb[1] = shadow.slot;
  ctx.cb[2] = shadow.gen;
  bpf_test_run_opts run{};
  run.sz = sizeof(run);
  run.data_in = frame.bytes;
  run.data_size_in = sizeof(frame.bytes);
  run.ctx_in = &ctx;
  run.ctx_size_in = sizeof(ctx);
  return bpf_prog_test_run_opts(prog_fd, &run) ? errno : 0;
}

bool still_live(const Table &shadows, const Live &shadow) {
  auto now = read_shadow(shadows, shadow.slot);
  return now && now->gen == shadow.gen && !is_over(*now);
}

} // namespace

Status pause_mirror(const Pins &pins) {
  auto control = open_table(pins, "control", sizeof(dp_control));
  if (!control)
    return control.errors();
  dp_control value{};
  value.paused = 1;
  uint32_t key = 0;
  if (bpf_map_update_elem(control->fd.get(), &key, &value, BPF_ANY))
    return sys_error("map control", "cannot be written", errno);
  return Unit{};
}

Result<Drained> drain_shadows(const Pins &pins, uint32_t wait_ms) {
  auto shadows = open_table(pins, "shadows", sizeof(dp_shadow));
  if (!shadows)
    return shadows.errors();
  Fd prog = open_pin(pins.prog(DP_PROG_POKE));
  if (!prog)
    return sys_error(pins.prog(DP_PROG_POKE), "cannot be opened", errno);
  auto all = read_shadows(*shadows);
  if (!all)
    return all.errors();
  std::vector<Live> live;
  for (uint32_t slot = 0; slot < all->size(); slot++)
    if (!is_over((*all)[slot]))
      live.push_back({slot, (*all)[slot].gen});

  Drained drained;
  for (const Live &s : live)
    if (int err = poke(prog.get(), s, DP_POKE_CLOSE))
      return sys_error("program " DP_PROG_POKE, "cannot be run", err);
  using Clock = std::chrono::steady_clock;
  auto until = Clock::now() + std::chrono::milliseconds(wait_ms);
  for (auto pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    drained.closed += static_cast<uint32_t>(
        std::erase_if(live, [&](const Live &s) { return !still_live(*shadows, s); }));
    if (live.empty() || Clock::now() >= until)
      break;
    std::this_thread::sleep_for(pause);
  }
  for (const Live &s : live) {
    if (int err = poke(prog.get(), s, DP_POKE_RESET))
      return sys_error("program " DP_PROG_POKE, "cannot be run", err);
    drained.reset++;
  }
  return drained;
}

} // namespace doppel
