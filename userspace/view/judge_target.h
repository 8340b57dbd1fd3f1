// SPDX-License-Identifier: Apache-2.0
// How one target fares, of what was seen of its row of the ledger. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "userspace/util/clock.h"
#include "userspace/view/vitals.h"

namespace doppel {

// ns; 0 where the moment lies behind now.
inline uint64_t age(uint64_t now_ns, uint64_t moment_ns) {
  return now_ns > moment_ns ? now_ns - moment_ns : 0;
}

template <typename F> void each_row(const Counters &counters, F f) {
  for (const MappingCounters &m : counters.mappings)
    for (const TargetCounters &t : m.targets)
      f(m.name, t.target, t.sum);
}

// Null: it has no such row.
const dp_ledger *row_of(const Counters &counters, const std::string &mapping,
                        const std::string &target);

// When it took something last: a connection, or bytes. 0: never.
uint64_t took(const dp_ledger &l);

struct Verdict {
  TargetState state;
  uint64_t since_ns; // 0: not known
};

// Of the last look, which has that row. `span_ns`: for how long it must have been seen so.
Verdict judge_target(const Looks &looks, const std::string &mapping, const std::string &target,
                     uint64_t span_ns);

} // namespace doppel
