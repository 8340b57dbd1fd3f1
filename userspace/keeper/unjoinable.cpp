// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/unjoinable.h"

namespace doppel {
namespace {
constexpr uint64_t kTold = UINT64_MAX;

} // namespace

Result<Unjoinable> Unjoinable::open(const Pins &pins, const std::vector<NamedMapping> &mappings) {
  Unjoinable u(TRY(open_table(pins, "ledger", sizeof(dp_ledger), Access::read)));
  for (const NamedMapping &m : mappings)
    u.before_[m.name] = TRY(u.excluded(m));
  return u;
}

Result<uint64_t> Unjoinable::excluded(const NamedMapping &mapping) const {
  uint64_t sum = 0;
  for (uint32_t t = 0; t < mapping.targets.size(); t++) {
    const auto cell = TRY(read_cell(ledger_, dp_ledger_cell(mapping.row, t)));
    sum += cell.excluded[DP_EXCLUDED_unjoinable];
  }
  return sum;
}

Result<std::vector<std::string>> Unjoinable::news(const std::vector<NamedMapping> &mappings) {
  std::vector<std::string> sentences;
  for (const NamedMapping &m : mappings) {
    uint64_t &before = before_[m.name];
    if (before == kTold)
      continue;
    const uint64_t bytes = TRY(excluded(m));
    if (bytes > before) {
      sentences.push_back("mapping " + m.name +
                          ": the target ends the connections that join in mid-stream, and they "
                          "are excluded as unjoinable, and tried again after a minute; where that "
                          "never helps, \"join\": \"never\" in this mapping leaves connections "
                          "that are older than the mirror alone from the start");
      before = kTold;
    } else {
      before = bytes; // a mapping that was removed and came back begins at 0
    }
  }
  return sentences;
}

} // namespace doppel
