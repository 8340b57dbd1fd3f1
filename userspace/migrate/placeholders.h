// SPDX-License-Identifier: Apache-2.0
// What stands at a server in place of an item that a client fills (`mg` with `N`): an add finds
// it, and who reads misses.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/memcached/connection.h"
#include "userspace/migrate/warm_requests.h"

namespace doppel::migrate {

enum class InPlace : uint8_t { nothing, placeholder, item };

// What stands there for each key. `has_me`: the server knows `me`, by which all but empty items are
// ruled out without a trace; those, keys that are not plain, and without `me` every key are asked
// for by `mg` with u, which counts as a get, and takes the token of a stale item.
Result<std::vector<InPlace>> find_placeholders(memcached::Connection &server, bool has_me,
                                               const WarmClock &clock,
                                               const std::vector<std::string> &keys);

} // namespace doppel::migrate
