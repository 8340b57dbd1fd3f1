// SPDX-License-Identifier: Apache-2.0
// TCP connections of a test's host with itself, at the address of svc0.
#pragma once

#include <sys/socket.h>

#include <cstdint>

#include "tests/soon.h"
#include "userspace/util/address.h"
#include "userspace/util/fd.h"

namespace doppel::hosttest {

extern const Address kHere; // 10.9.0.1

struct Pair {
  Fd client, server;
};

// Ports in host order. A failure is one of the test.
Fd listener(uint16_t port, int family = AF_INET);
Fd dial(uint16_t port);
Pair connected(const Fd &listener);
uint16_t port_of(int fd); // its own

} // namespace doppel::hosttest
