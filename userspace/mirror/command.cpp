// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/command.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <cstring>

#include "doppel/names.h"

namespace doppel {
namespace {
constexpr uint32_t kFrame = 60; // the smallest that Ethernet has, without its checksum
constexpr uint32_t kEthernet = 14;
static_assert(kEthernet + sizeof(dp_flow_key) <= kFrame);

} // namespace

Result<CommandProgram> CommandProgram::open(const Pins &pins) {
  const std::string path = pins.prog(DP_PROG_COMMAND);
  Fd prog = open_pin_to_read(path);
  if (!prog)
    return sys_error(path, "cannot be opened", errno, "doppel status tells what is missing");
  return CommandProgram(std::move(prog));
}

Status CommandProgram::run(const uint8_t *frame, uint32_t op, uint32_t slot, uint32_t gen,
                           uint32_t seconds) const {
  __sk_buff ctx{};
  ctx.cb[DP_CMD_CB_OP] = op;
  ctx.cb[DP_CMD_CB_SLOT] = slot;
  ctx.cb[DP_CMD_CB_GEN] = gen;
  ctx.cb[DP_CMD_CB_SECONDS] = seconds;
  bpf_test_run_opts run{};
  run.sz = sizeof(run);
  run.data_in = frame;
  run.data_size_in = kFrame;
  run.ctx_in = &ctx;
  run.ctx_size_in = sizeof(ctx);
  if (bpf_prog_test_run_opts(prog_.get(), &run))
    return sys_error("program " DP_PROG_COMMAND, "cannot be run", errno);
  return Unit{};
}

// BPF_PROG_RUN wants a packet, and the program uses it as the material of what it sends: Ethernet,
// IPv4 and TCP headers. To a target of IPv6 as well: the program makes of it what the shadow needs.
Status CommandProgram::shadow(dp_command op, uint32_t slot, uint32_t gen) const {
  uint8_t frame[kFrame] = {};
  frame[12] = 0x08; // ETH_P_IP
  frame[14] = 0x45; // IPv4, header of 5 words
  frame[17] = 40;   // total length
  frame[22] = 64;   // time to live
  frame[23] = 6;    // IPPROTO_TCP
  frame[46] = 0x50; // TCP header of 5 words
  return run(frame, op, slot, gen, 0);
}

Status CommandProgram::forget(dp_command op, const dp_flow_key &flow, uint32_t silent_s) const {
  uint8_t frame[kFrame] = {};
  frame[12] = 0x08; // ETH_P_IP: the shadow's FIN is made of this frame
  std::memcpy(frame + kEthernet, &flow, sizeof(flow));
  return run(frame, op, DP_NO_SLOT, 0, silent_s);
}

Status CommandProgram::expire(const dp_flow_key &flow, uint32_t silent_s) const {
  return forget(DP_CMD_EXPIRE, flow, silent_s);
}

Status CommandProgram::source_gone(const dp_flow_key &flow, uint32_t silent_s) const {
  return forget(DP_CMD_SOURCE_GONE, flow, silent_s);
}

} // namespace doppel
