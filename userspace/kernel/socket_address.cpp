// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/socket_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>

namespace doppel {
namespace {
Endpoint ask(int socket, int (*what)(int, sockaddr *, socklen_t *)) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  if (what(socket, reinterpret_cast<sockaddr *>(&storage), &size))
    return {};
  return end_in(storage);
}

} // namespace

SocketAddress socket_address(const Endpoint &end) {
  SocketAddress s;
  if (end.address.is_v4()) {
    auto &in = reinterpret_cast<sockaddr_in &>(s.storage);
    in.sin_family = AF_INET;
    in.sin_port = htons(end.port);
    in.sin_addr.s_addr = end.address.raw.w[3];
    s.size = sizeof(in);
  } else {
    auto &in = reinterpret_cast<sockaddr_in6 &>(s.storage);
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(end.port);
    std::memcpy(&in.sin6_addr, &end.address.raw, sizeof(in.sin6_addr));
    s.size = sizeof(in);
  }
  return s;
}

Endpoint end_in(const sockaddr_storage &storage) {
  if (storage.ss_family == AF_INET) {
    const auto &in = reinterpret_cast<const sockaddr_in &>(storage);
    return {Address::v4(in.sin_addr.s_addr), ntohs(in.sin_port)};
  }
  if (storage.ss_family != AF_INET6)
    return {};
  const auto &in = reinterpret_cast<const sockaddr_in6 &>(storage);
  Endpoint end{{}, ntohs(in.sin6_port)};
  std::memcpy(&end.address.raw, &in.sin6_addr, sizeof(end.address.raw));
  return end;
}

Endpoint own_end(int socket) { return ask(socket, ::getsockname); }
Endpoint other_end(int socket) { return ask(socket, ::getpeername); }

} // namespace doppel
