// SPDX-License-Identifier: Apache-2.0
// Addresses as sockets have them: struct sockaddr of either family.
#pragma once

#include <sys/socket.h>

#include "userspace/util/endpoint.h"

namespace doppel {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  int family() const { return storage.ss_family; }
  const sockaddr *get() const { return reinterpret_cast<const sockaddr *>(&storage); }
};

// IPv4 as AF_INET, IPv6 as AF_INET6.
SocketAddress socket_address(const Endpoint &end);

// No address, port 0: of another family.
Endpoint end_in(const sockaddr_storage &storage);

// Of a socket: its own end, and the one that it is connected with. No address: it has none.
Endpoint own_end(int socket);
Endpoint other_end(int socket);

} // namespace doppel
