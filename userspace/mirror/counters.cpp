// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/counters.h"

#include <algorithm>

namespace doppel {

namespace {

// Gauges are spread over all cells, as each transaction touches only its own.
uint32_t used(int64_t sum, uint32_t capacity) {
  return static_cast<uint32_t>(std::clamp<int64_t>(sum, 0, capacity));
}

} // namespace

Result<Counters> read_counters_of(const Attached &attached) {
  auto ledger = open_table(attached.pins, "ledger", sizeof(dp_ledger));
  if (!ledger)
    return ledger.errors();
  auto shadows = open_table(attached.pins, "shadows", sizeof(dp_shadow));
  if (!shadows)
    return shadows.errors();
  auto store = open_table(attached.pins, "store", sizeof(uint32_t));
  if (!store)
    return store.errors();

  Counters c;
  int64_t slots = 0, chunks = 0;
  auto read = [&](uint32_t index, dp_ledger *out) -> Status {
    auto cell = read_cell(*ledger, index);
    if (!cell)
      return cell.errors();
    *out = *cell;
    slots += cell->slots;
    chunks += cell->chunks;
    return Unit{};
  };
  for (const NamedMapping &m : attached.meta.mappings) {
    c.mappings.push_back({m.name, {}});
    for (uint32_t t = 0; t < m.targets.size(); t++) {
      TargetCounters target{m.targets[t], {}};
      if (auto s = read(m.row * DP_MAX_TARGETS + t, &target.sum); !s)
        return s.errors();
      c.mappings.back().targets.push_back(target);
    }
  }
  if (auto s = read(DP_LEDGER_GLOBAL, &c.global); !s)
    return s.errors();
  c.ports = shadows->entries;
  c.ports_free = c.ports - used(slots, c.ports);
  c.chunks = store->entries;
  c.chunks_used = used(chunks, c.chunks);
  return c;
}

Result<Counters> read_counters() {
  auto attached = find_attached("counters");
  if (!attached)
    return attached.errors();
  return read_counters_of(*attached);
}

} // namespace doppel
