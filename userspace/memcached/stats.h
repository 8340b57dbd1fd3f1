// SPDX-License-Identifier: Apache-2.0
// What a server tells about itself.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "userspace/memcached/connection.h"
#include "userspace/util/error.h"

namespace doppel::memcached {

using Stats = std::map<std::string, std::string>;

// `what`: "" (general), "settings", "items", "slabs", "conns", ...
Result<Stats> stats(Connection &c, const std::string &what = "");

// 0 where it is absent or no whole number.
uint64_t number(const Stats &stats, const std::string &name);

} // namespace doppel::memcached
