// SPDX-License-Identifier: Apache-2.0
// Tells when bytes of a mapping begin to be excluded as `unjoinable`.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "userspace/mirror/maps.h"

namespace doppel {

class Unjoinable {
public:
  // What was excluded before this call is not told of: whoever kept the mirror then has done so.
  static Result<Unjoinable> open(const Pins &pins, const std::vector<NamedMapping> &mappings);

  // A sentence for each mapping whose count has grown for the first time since it is known. A
  // mapping that came later is known from its first byte on.
  Result<std::vector<std::string>> news(const std::vector<NamedMapping> &mappings);

private:
  explicit Unjoinable(MapTable ledger) : ledger_(std::move(ledger)) {}
  Result<uint64_t> excluded(const NamedMapping &mapping) const; // bytes, all targets
  MapTable ledger_;
  std::map<std::string, uint64_t> before_; // by name of the mapping; kTold: it was told
};

} // namespace doppel
