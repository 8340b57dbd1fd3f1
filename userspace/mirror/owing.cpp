// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/owing.h"

#include <algorithm>

#include "userspace/util/clock.h"
#include "userspace/view/judge_target.h"

namespace doppel {
namespace {
constexpr uint64_t kRestNs = 2'000'000'000;
constexpr uint64_t kShare = 100; // at most one part in so many of a CPU
constexpr size_t kFew = 4096;    // shadows: some milliseconds, one by one

uint64_t observed(const Counters &counters) {
  uint64_t sum = 0;
  each_row(counters, [&](const auto &, const auto &, const dp_ledger &l) { sum += l.observed; });
  return sum;
}

bool has_shadows(const Counters &counters) {
  bool some = false;
  each_row(counters,
           [&](const auto &, const auto &, const dp_ledger &l) { some = some || l.open > 0; });
  return some;
}

} // namespace

Status Owing::look(const Attached &attached, Vitals &v) {
  pending_ = false;
  if (!has_shadows(v.counters)) {
    owed_ = {};
    observed_ = 0;
    return Unit{};
  }
  const auto shadows = TRY(open_table(attached.pins, "shadows", sizeof(dp_shadow), Access::read));
  const auto slots = owed_.slots();
  const uint64_t now_observed = observed(v.counters);
  const bool few = slots.size() <= kFew;
  const bool all = v.now_ns >= next_ns_ && (!few || now_observed != observed_);
  if (all) {
    const uint64_t begin = thread_cpu_ns();
    TRY(each_shadow(shadows, [&](uint32_t slot, const dp_shadow &s) -> Status {
      owed_.look(slot, s, v.now_ns);
      return Unit{};
    }));
    const uint64_t cost = looker_ == Looker::always ? kShare * (thread_cpu_ns() - begin) : 0;
    next_ns_ = v.now_ns + std::max(kRestNs, cost);
    observed_ = now_observed;
  } else if (few) {
    for (const uint32_t slot : slots)
      if (const auto s = read_shadow(shadows, slot))
        owed_.look(slot, *s, v.now_ns);
  }
  pending_ = owed_.pending(v.now_ns, patience_ns_);
  const auto rows = owed_.longer_than(patience_ns_, v.now_ns);
  for (const NamedMapping &m : attached.meta.mappings)
    for (uint32_t t = 0; t < m.targets.size(); t++)
      if (const auto row = rows.find({m.row, t}); row != rows.end())
        v.owed[target_key(m.name, m.targets[t])] = row->second;
  return Unit{};
}

} // namespace doppel
