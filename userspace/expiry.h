// SPDX-License-Identifier: Apache-2.0
// Forgets flows without a shadow whose clients are long gone: those left no FIN that would have
// done it. Flows with a shadow have a timer of their own in the data plane.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "userspace/maps.h"
#include "userspace/poke.h"

namespace doppel {

class Expiry {
public:
  static Result<Expiry> open(const Pins &pins);

  // Flows without a shadow, from the ledger; costs nothing that depends on the tables' sizes.
  Result<int64_t> waiting(const std::vector<NamedMapping> &mappings) const;

  // Looks at the next few rows of the flow table. True: there are more.
  Result<bool> step(uint32_t silent_s);

private:
  Expiry(Poker poker, MapTable flows, MapTable ledger)
      : poker_(std::move(poker)), flows_(std::move(flows)), ledger_(std::move(ledger)) {}
  Poker poker_;
  MapTable flows_, ledger_;
  std::optional<uint32_t> token_; // where the pass over the table has got to
  std::vector<dp_flow_key> keys_;
  std::vector<dp_flow> values_;
};

} // namespace doppel
