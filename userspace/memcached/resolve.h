// SPDX-License-Identifier: Apache-2.0
// The addresses of a host.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <vector>

#include "userspace/memcached/server.h"
#include "userspace/util/error.h"

namespace doppel::memcached {

struct Endpoint {
  sockaddr_storage address{};
  socklen_t size = 0;
};

// In the order that the system prefers; at least one. Comes back by `deadline_ns` (monotonic), also
// where a name server is silent.
Result<std::vector<Endpoint>> resolve(const Server &server, uint64_t deadline_ns);

} // namespace doppel::memcached
