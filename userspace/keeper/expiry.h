// SPDX-License-Identifier: Apache-2.0
// Forgets flows whose clients are long gone: those left no FIN that would have done it. A shadow of
// such a flow is closed, which gives its port back.
#pragma once

#include <cstdint>
#include <set>
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

  // After how many seconds of silence a flow is forgotten.
  struct Silence {
    uint32_t tcp_s = 0;
    bool shadows = true; // those of TCP that have one, too
    uint32_t udp_s = 0;
    std::set<uint32_t> udp_rows; // mappings of UDP
  };
  // Looks at the next few rows of the flow table. True: there are more.
  Result<bool> step(const Silence &silence);

private:
  Expiry(CommandProgram program, MapTable flows, MapTable shadows, MapTable ledger)
      : program_(std::move(program)), flows_(std::move(flows)), shadows_(std::move(shadows)),
        ledger_(std::move(ledger)) {}
  CommandProgram program_;
  MapTable flows_, shadows_, ledger_;
  FlowWalk walk_;
};

} // namespace doppel
