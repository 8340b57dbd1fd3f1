// SPDX-License-Identifier: Apache-2.0
// The list of reasons as tables, and what follows from a ledger alone.
#include <algorithm>

#include "userspace/view/render.h"

namespace doppel {
const Reason lost_reasons[DP_LOST_N] = {
#define DP_LOST(number, name, help) {number, #name, help},
#include "doppel/reasons.def"
};

const Reason excluded_reasons[DP_EXCLUDED_N] = {
#define DP_EXCLUDED(number, name, help) {number, #name, help},
#include "doppel/reasons.def"
};

const Reason event_reasons[DP_EVENT_N] = {
#define DP_EVENT(number, name, help) {number, #name, help},
#include "doppel/reasons.def"
};

std::optional<double> completeness(const dp_ledger &l) {
  uint64_t excluded = 0;
  for (const __u64 n : l.excluded)
    excluded += n;
  if (l.observed <= excluded)
    return std::nullopt;
  return std::min(1.0,
                  static_cast<double>(l.delivered) / static_cast<double>(l.observed - excluded));
}

bool is_whole(const StatusView &status) { return status.attached && status.missing.empty(); }

bool is_able(const std::vector<ProbeRow> &probe) {
  return std::all_of(probe.begin(), probe.end(),
                     [](const ProbeRow &p) { return p.ok || !p.needed; });
}

} // namespace doppel
