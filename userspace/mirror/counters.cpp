// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/counters.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "userspace/mirror/key_notes.h"
#include "userspace/util/clock.h"

namespace doppel {
namespace {
// Gauges are spread over all cells, as each transaction touches only its own.
uint32_t used(int64_t sum, uint32_t capacity) {
  return static_cast<uint32_t>(std::clamp<int64_t>(sum, 0, capacity));
}

// Where addresses have ports of their own, targets have more or fewer left.
Status read_ports_of(const Attached &attached, const std::vector<dp_mapping> &rows, Counters &c) {
  const auto table = TRY(open_table(attached.pins, "pools", sizeof(dp_pool), Access::read));
  if (table.entries < 2)
    return Unit{};
  const uint32_t ports = c.ports / table.entries;
  std::vector<uint32_t> free;
  for (uint32_t i = 0; i < table.entries; i++) {
    dp_pool pool{};
    if (bpf_map_lookup_elem(table.fd.get(), &i, &pool))
      return sys_error("map pools", "cannot be read", errno);
    free.push_back(ports - used(pool.taken, ports));
  }
  bool first = true;
  for (const dp_mapping &row : rows)
    for (uint32_t t = 0; t < row.n_targets && t < DP_MAX_TARGETS; t++) {
      const dp_target &target = row.target[t];
      std::set<uint32_t> pools(target.pool, target.pool + std::max<unsigned>(target.n_pools, 1));
      uint32_t left = 0;
      for (const uint32_t pool : pools)
        left += pool < free.size() ? free[pool] : 0;
      if (!first && left >= c.ports_free)
        continue;
      first = false;
      c.ports = static_cast<uint32_t>(pools.size()) * ports;
      c.ports_free = left;
    }
  return Unit{};
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
  std::vector<dp_mapping> rows;
  auto read = [&](uint32_t index, dp_ledger *out) -> Status {
    auto cell = TRY(read_cell(ledger, index));
    *out = cell;
    slots += cell.slots;
    return Unit{};
  };
  std::vector<NamedMapping> all = attached.meta.mappings;
  for (NamedMapping m : attached.meta.going) {
    m.name += kGoing; // another one may have its name
    all.push_back(std::move(m));
  }
  for (const NamedMapping &m : all) {
    c.mappings.push_back({m.name, {}, {}, m.since, m.since_ns});
    c.mappings.back().ports = m.service();
    for (uint32_t t = 0; t < m.targets.size(); t++) {
      TargetCounters target{m.targets[t], {}};
      TRY(read(dp_ledger_cell(m.row, t), &target.sum));
      c.mappings.back().targets.push_back(target);
    }
    dp_mapping row{};
    if (bpf_map_lookup_elem(mappings.fd.get(), &m.row, &row))
      return sys_error("map mappings", "cannot be read", errno);
    for (uint32_t t = 0; t < m.targets.size() && t < row.n_targets; t++) {
      TargetCounters &target = c.mappings.back().targets[t];
      target.portion = {sample_of_bound(row.target[t].sample),
                        std::max<uint32_t>(row.target[t].copies, 1)};
      target.keep_client = row.target[t].keep_client != 0;
    }
    rows.push_back(row);
    c.mappings.back().chooses_clients = row.clients != 0;
    if (row.flags & DP_MAP_CONVERGE)
      c.mappings.back().converge = TRY(read_converge(converge, m.row));
  }
  TRY(read(DP_LEDGER_GLOBAL, &c.global));
  c.removed_mappings = attached.meta.removed_mappings;
  c.removed = attached.meta.removed;
  c.ports = shadows.entries;
  c.ports_free = c.ports - used(slots, c.ports);
  TRY(read_ports_of(attached, rows, c));
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
