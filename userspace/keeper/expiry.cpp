// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/expiry.h"

#include "userspace/util/clock.h"

namespace doppel {
Result<Expiry> Expiry::open(const Pins &pins) {
  auto program = TRY(CommandProgram::open(pins));
  auto flows = TRY(open_table(pins, "flows", sizeof(dp_flow), Access::read));
  auto shadows = TRY(open_table(pins, "shadows", sizeof(dp_shadow), Access::read));
  auto ledger = TRY(open_table(pins, "ledger", sizeof(dp_ledger), Access::read));
  return Expiry(std::move(program), std::move(flows), std::move(shadows), std::move(ledger));
}

Result<int64_t> Expiry::known(const std::vector<NamedMapping> &mappings) const {
  int64_t sum = 0;
  for (const NamedMapping &m : mappings)
    for (uint32_t t = 0; t < m.targets.size(); t++) {
      auto cell = TRY(read_cell(ledger_, dp_ledger_cell(m.row, t)));
      sum += cell.waiting + cell.open;
    }
  return sum;
}

Result<bool> Expiry::step(const Silence &silence) {
  const uint64_t now = monotonic_ns();
  return walk_.step(flows_, [&](const dp_flow_key &key, const dp_flow &flow) -> Status {
    const bool udp = silence.udp_rows.count(key.mapping) != 0;
    const uint32_t silent_s = udp ? silence.udp_s : silence.tcp_s;
    uint64_t seen = flow.seen_ns;
    if (flow.slot != DP_NO_SLOT && flow.slot != DP_SLOT_GONE) {
      const auto shadow = udp || silence.shadows ? read_shadow(shadows_, flow.slot) : std::nullopt;
      seen = shadow ? shadow->tcp.seen_ns : now;
    }
    if (seen + uint64_t{silent_s} * 1'000'000'000 < now)
      return program_.expire(key, silent_s);
    return Unit{};
  });
}

} // namespace doppel
