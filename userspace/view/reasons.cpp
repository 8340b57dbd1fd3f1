// SPDX-License-Identifier: Apache-2.0
// The lists of counters and reasons as tables, and what follows from a ledger alone.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "userspace/view/render.h"

namespace doppel {
namespace {
constexpr size_t kWords = sizeof(dp_ledger) / sizeof(uint64_t);
static_assert(sizeof(dp_ledger) % sizeof(uint64_t) == 0, "bpf(2) pads per-CPU values to 8 bytes");

} // namespace

const Reason lost_reasons[DP_LOST_N] = {
#define DP_LOST(number, name, help) {number, #name, help},
#include "doppel/reasons.def"
};

const Reason excluded_reasons[DP_EXCLUDED_N] = {
#define DP_EXCLUDED(number, name, help) {number, #name, help},
#define DP_UNWANTED(number, name, help) {number, #name, help, true},
#include "doppel/reasons.def"
};

const Reason event_reasons[DP_EVENT_N] = {
#define DP_EVENT(number, name, help) {number, #name, help},
#include "doppel/reasons.def"
};

const std::vector<ConvergeFigure> &converge_figures() {
  static const std::vector<ConvergeFigure> list = {
#define DP_CONVERGE(name, help) {#name, help, &dp_converge::name},
#include "doppel/converge.def"
  };
  return list;
}

uint64_t unrepaired_ms(const dp_converge &row, uint64_t now_ns) {
  return row.oldest_ns ? (now_ns - std::min<uint64_t>(now_ns, row.oldest_ns)) / 1'000'000 : 0;
}

bool is_looked_after(const dp_converge &row, uint64_t now_ns) {
  constexpr uint64_t kSilentNs = 10'000'000'000;
  return row.seen_ns && now_ns - std::min<uint64_t>(now_ns, row.seen_ns) < kSilentNs;
}

bool is_converging(const dp_converge &row, uint64_t now_ns) {
  return is_looked_after(row, now_ns) && !row.down_ns;
}

void add(dp_ledger *sum, const dp_ledger &part) {
  uint64_t a[kWords], b[kWords];
  std::memcpy(a, sum, sizeof(a));
  std::memcpy(b, &part, sizeof(b));
  for (size_t i = 0; i < kWords; i++)
    a[i] += b[i]; // signed counters too: two's complement
  // Of moments the later one counts.
  constexpr size_t moments = offsetof(dp_ledger, last) / sizeof(uint64_t);
  constexpr size_t count = sizeof(dp_moments) / sizeof(uint64_t);
  for (size_t i = moments; i < moments + count; i++)
    a[i] = std::max(a[i] - b[i], b[i]);
  std::memcpy(sum, a, sizeof(a));
}

uint64_t missing(const dp_ledger &l) {
  uint64_t sum = sum_of(l.lost);
  for (const Reason &r : excluded_reasons)
    if (!r.unwanted)
      sum += l.excluded[r.number];
  return sum;
}

const std::vector<Counter> &all_counters() {
  constexpr bool total = false, gauge = true;
  static const std::vector<Counter> list = {
#define DP_COUNTER(group, name, kind, help)                                                        \
  {CounterGroup::group, #name, help, kind,                                                         \
   [](const dp_ledger &l) { return static_cast<uint64_t>(l.name); }},
#include "doppel/counters.def"
  };
  return list;
}

const std::vector<Moment> &all_moments() {
  static const std::vector<Moment> list = {
#define DP_MOMENT(name, help)                                                                      \
  {#name, help, [](const dp_moments &m) { return static_cast<uint64_t>(m.name); }},
#include "doppel/moments.def"
  };
  return list;
}

std::optional<Loss> last_loss(const dp_ledger &l) {
  Loss last;
  for (const Reason &r : lost_reasons)
    if (l.last.lost[r.number] > last.at_ns)
      last = {l.last.lost[r.number], r.name};
  return last.at_ns ? std::optional(last) : std::nullopt;
}

std::time_t unix_time(uint64_t moment_ns, uint64_t now_ns, std::time_t now) {
  return now - static_cast<std::time_t>((now_ns - std::min(now_ns, moment_ns)) / 1'000'000'000);
}

void measure_rates(Counters &now, const Counters &before) {
  if (now.attached != before.attached || now.now_ns <= before.now_ns)
    return; // another mirror meanwhile
  now.over_ns = now.now_ns - before.now_ns;
  for (MappingCounters &m : now.mappings)
    for (TargetCounters &t : m.targets)
      for (const MappingCounters &was : before.mappings)
        for (const TargetCounters &then : was.targets)
          if ((was.name == m.name || was.name + kGoing == m.name) && then.target == t.target)
            t.before = then.sum;
}

// A row that was cleared meanwhile begins at 0 again.
std::optional<uint64_t> rate_of(uint64_t now, uint64_t before, uint64_t over_ns) {
  if (!over_ns)
    return std::nullopt;
  const double events = static_cast<double>(now >= before ? now - before : now);
  return static_cast<uint64_t>(std::llround(events * 1e9 / static_cast<double>(over_ns)));
}

std::optional<double> completeness(const dp_ledger &l) {
  uint64_t unwanted = 0;
  for (const Reason &r : excluded_reasons)
    if (r.unwanted)
      unwanted += l.excluded[r.number];
  if (l.observed <= unwanted)
    return std::nullopt;
  return std::min(1.0,
                  static_cast<double>(l.delivered) / static_cast<double>(l.observed - unwanted));
}

Exit exit_of(const StatusView &status) {
  const Exit gravest = exit_of(status.problems);
  return gravest == Exit::ok && !status.attached ? Exit::detached : gravest;
}

bool is_whole(const StatusView &status) { return status.attached && status.missing.empty(); }

bool is_able(const std::vector<ProbeRow> &probe) {
  return std::all_of(probe.begin(), probe.end(),
                     [](const ProbeRow &p) { return p.ok || !p.needed || !p.tried; });
}

} // namespace doppel
