// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/counters.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>

#include "userspace/mirror/key_notes.h"
#include "userspace/util/clock.h"

namespace doppel {
namespace {
// Gauges are spread over all cells, as each transaction touches only its own.
uint32_t used(int64_t sum, uint32_t capacity) {
  return static_cast<uint32_t>(std::clamp<int64_t>(sum, 0, capacity));
}

} // namespace

Result<Counters> read_counters_of(const Attached &attached) {
  auto ledger = TRY(open_table(attached.pins, "ledger", sizeof(dp_ledger), Access::read));
  auto shadows = TRY(open_table(attached.pins, "shadows", sizeof(dp_shadow), Access::read));
  auto store = TRY(open_table(attached.pins, "fresh_chunks", sizeof(dp_fresh), Access::read));

  const auto mappings =
      TRY(open_table(attached.pins, "mappings", sizeof(dp_mapping), Access::read));
  const auto converge =
      TRY(open_table(attached.pins, "converge", sizeof(dp_converge), Access::read));

  Counters c;
  c.attached = attached.meta.since;
  int64_t slots = 0;
  auto read = [&](uint32_t index, dp_ledger *out) -> Status {
    auto cell = TRY(read_cell(ledger, index));
    *out = cell;
    slots += cell.slots;
    return Unit{};
  };
  for (const NamedMapping &m : attached.meta.mappings) {
    c.mappings.push_back({m.name, {}, {}, m.since, m.since_ns});
    for (uint32_t t = 0; t < m.targets.size(); t++) {
      TargetCounters target{m.targets[t], {}};
      TRY(read(dp_ledger_cell(m.row, t), &target.sum));
      c.mappings.back().targets.push_back(target);
    }
    dp_mapping row{};
    if (bpf_map_lookup_elem(mappings.fd.get(), &m.row, &row))
      return sys_error("map mappings", "cannot be read", errno);
    for (uint32_t t = 0; t < m.targets.size() && t < row.n_targets; t++)
      c.mappings.back().targets[t].portion = {sample_of_bound(row.target[t].sample),
                                              std::max<uint32_t>(row.target[t].copies, 1)};
    c.mappings.back().chooses_clients = row.clients != 0;
    if (row.flags & DP_MAP_CONVERGE)
      c.mappings.back().converge = TRY(read_converge(converge, m.row));
  }
  TRY(read(DP_LEDGER_GLOBAL, &c.global));
  c.removed_mappings = attached.meta.removed_mappings;
  c.removed = attached.meta.removed;
  c.ports = shadows.entries;
  c.ports_free = c.ports - used(slots, c.ports);
  const uint32_t zero = 0;
  dp_fresh chunks{};
  if (bpf_map_lookup_elem(store.fd.get(), &zero, &chunks))
    return sys_error("map fresh_chunks", "cannot be read", errno);
  c.chunks = chunks.limit;
  c.chunks_used = used(chunks.used, c.chunks);
  c.now_ns = monotonic_ns(); // after all that was read: no moment lies behind it
  c.now = std::time(nullptr);
  const uint64_t since_ns = attached.meta.since_ns;
  c.over_ns = since_ns ? c.now_ns - std::min(c.now_ns, since_ns) : 0;
  return c;
}

Result<Counters> read_counters() {
  auto attached = TRY(find_attached("counters"));
  return read_counters_of(attached);
}

} // namespace doppel
