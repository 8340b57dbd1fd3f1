// SPDX-License-Identifier: Apache-2.0
// How a process makes the data plane act: BPF_PROG_RUN of the pinned program DP_PROG_COMMAND.
#pragma once

#include <cstdint>

#include "doppel/abi.h"
#include "userspace/kernel/pins.h"

namespace doppel {

class CommandProgram {
public:
  static Result<CommandProgram> open(const Pins &pins);

  // What dp_command says, on the shadow in `slot` if it still has that generation. Must be called
  // in the network namespace of DP_LINK.
  Status shadow(dp_command op, uint32_t slot, uint32_t gen) const;

  // Forgets a flow that was silent for `silent_s` seconds and closes its shadow, if it has one; the
  // data plane looks again whether that is so.
  Status expire(const dp_flow_key &flow, uint32_t silent_s) const;

  // The same for a flow that the source has ended.
  Status source_gone(const dp_flow_key &flow, uint32_t silent_s) const;

private:
  explicit CommandProgram(Fd prog) : prog_(std::move(prog)) {}
  Status forget(dp_command op, const dp_flow_key &flow, uint32_t silent_s) const;
  Status run(const uint8_t *frame, uint32_t op, uint32_t slot, uint32_t gen,
             uint32_t seconds) const;
  Fd prog_;
};

} // namespace doppel
