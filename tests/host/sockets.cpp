// SPDX-License-Identifier: Apache-2.0
#include "tests/host/sockets.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace doppel::hosttest {
const Address kHere = *parse_address("10.9.0.1");

uint16_t port_of(int fd) {
  sockaddr_storage a{};
  socklen_t len = sizeof(a);
  EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr *>(&a), &len), 0);
  return ntohs(a.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6 *>(&a)->sin6_port
                                       : reinterpret_cast<sockaddr_in *>(&a)->sin_port);
}

Fd listener(uint16_t port, int family) {
  Fd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  int on = 1, err;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (family == AF_INET6) {
    sockaddr_in6 a{};
    a.sin6_family = AF_INET6;
    a.sin6_port = htons(port);
    err = ::bind(fd.get(), reinterpret_cast<sockaddr *>(&a), sizeof(a));
  } else {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(port);
    err = ::bind(fd.get(), reinterpret_cast<sockaddr *>(&a), sizeof(a));
  }
  EXPECT_EQ(err, 0) << std::strerror(errno);
  EXPECT_EQ(::listen(fd.get(), 1024), 0);
  return fd;
}

Fd dial(uint16_t port) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = kHere.raw.w[3];
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr *>(&a), sizeof(a)), 0)
      << std::strerror(errno);
  return fd;
}

Pair connected(const Fd &listener) {
  Pair p;
  p.client = dial(port_of(listener.get()));
  p.server = Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(p.server) << std::strerror(errno);
  return p;
}

} // namespace doppel::hosttest
