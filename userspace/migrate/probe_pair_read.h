// SPDX-License-Identifier: Apache-2.0
// Asks two memcacheds what probe_pair.h judges.
#pragma once

#include <vector>

#include "userspace/memcached/access.h"
#include "userspace/memcached/server.h"
#include "userspace/migrate/probe_pair.h"

namespace doppel::migrate {

// The errors of both where both cannot be asked. Writes nothing.
Result<std::vector<PairRow>> probe_pair(const memcached::Server &source,
                                        const memcached::Server &target,
                                        const memcached::Access &access);

} // namespace doppel::migrate
