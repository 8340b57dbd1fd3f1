// SPDX-License-Identifier: Apache-2.0
// Forgets flows whose clients are long gone: those left no FIN that would have done it. A shadow of
// such a flow is closed, which gives its port back.
#pragma once

#include <cstdint>
#include <vector>

#include "userspace/mirror/command.h"
#include "userspace/mirror/flow_walk.h"
#include "userspace/mirror/maps.h"

namespace doppel {

class Expiry {
public:
  static Result<Expiry> open(const Pins &pins);

  // How many flows there are, from the ledger; costs nothing that depends on the tables' sizes.
  Result<int64_t> known(const std::vector<NamedMapping> &mappings) const;

  // Looks at the next few rows of the flow table, those with a shadow only if `shadows` says so.
  // True: there are more.
  Result<bool> step(uint32_t silent_s, bool shadows);

private:
  Expiry(CommandProgram program, MapTable flows, MapTable shadows, MapTable ledger)
      : program_(std::move(program)), flows_(std::move(flows)), shadows_(std::move(shadows)),
        ledger_(std::move(ledger)) {}
  CommandProgram program_;
  MapTable flows_, shadows_, ledger_;
  FlowWalk walk_;
};

} // namespace doppel
