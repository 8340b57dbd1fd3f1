// SPDX-License-Identifier: Apache-2.0
// Whether two names lead to one memcached.
#pragma once

#include "userspace/memcached/connection.h"
#include "userspace/util/error.h"

namespace doppel::migrate {

// Both connections end at the same server. Process and start alone do not tell, since servers in
// containers may share both; so the one is asked a number of `me`, and the other how many it has
// counted.
Result<bool> is_one(memcached::Connection &a, memcached::Connection &b);
Result<bool> is_one(const memcached::Server &a, const memcached::Server &b,
                    const memcached::Access &access);

// An error where they do: what is deleted "at the target" would be gone from the source.
Status differ(memcached::Connection &source, memcached::Connection &target);

// Process and start of a server, as a text; another one after a restart.
Result<std::string> incarnation(memcached::Connection &c);

} // namespace doppel::migrate
