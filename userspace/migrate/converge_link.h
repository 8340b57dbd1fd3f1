// SPDX-License-Identifier: Apache-2.0
// Both servers of a pair that converges, while they answer.
#pragma once

#include <memory>
#include <string>

#include "userspace/migrate/barrier.h"
#include "userspace/migrate/pair.h"
#include "userspace/migrate/side.h"
#include "userspace/migrate/warm_requests.h"

namespace doppel::migrate {

struct ConvergeLink {
  Side source, target;
  std::unique_ptr<Barrier> barrier;
  WarmClock clock;
  std::string source_is, target_is; // which process: another one has none of what was compared
  bool copies_cas;
};

// Errors: a server cannot be asked, or is none that keys can be compared and repaired with.
Result<ConvergeLink> connect(const Pair &pair, const memcached::Access &access);

// Whether the server answers.
Status ask_nothing(memcached::Connection &connection);

// Why plain writes may succeed on one of them only, as a sentence; empty: they will not.
std::string differing_limits(const ConvergeLink &link);

} // namespace doppel::migrate
