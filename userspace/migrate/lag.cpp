// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/lag.h"

#include <algorithm>

namespace doppel::migrate {
double lag_ms(const dp_ledger &before, const dp_ledger &now, uint64_t over_ns, uint64_t now_ns) {
  if (now.in_flight <= 0)
    return 0;
  if (now.delivered > before.delivered)
    return static_cast<double>(now.in_flight) * static_cast<double>(over_ns) / 1e6 /
           static_cast<double>(now.delivered - before.delivered);
  const uint64_t began = now_ns - std::min(now_ns, over_ns);
  const uint64_t since = now.last.acknowledged ? now.last.acknowledged : began;
  return static_cast<double>(now_ns - std::min(now_ns, since)) / 1e6;
}

} // namespace doppel::migrate
