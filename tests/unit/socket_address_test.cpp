// SPDX-License-Identifier: Apache-2.0
#include "userspace/kernel/socket_address.h"

#include <gtest/gtest.h>
#include <sys/un.h>

#include "userspace/util/fd.h"

namespace doppel {
namespace {
TEST(SocketAddress, OfEitherFamily) {
  const struct {
    const char *address;
    int family;
  } cases[] = {{"10.0.0.1", AF_INET}, {"2001:db8::1", AF_INET6}, {"::", AF_INET6}};
  for (const auto &c : cases) {
    const SocketAddress s = socket_address({*parse_address(c.address), 11211});
    EXPECT_EQ(s.family(), c.family) << c.address;
    const Endpoint end = end_in(s.storage);
    EXPECT_EQ(end.address.text(), c.address);
    EXPECT_EQ(end.port, 11211);
  }
}

TEST(SocketAddress, OfAnotherFamilyIsNone) {
  sockaddr_storage s{};
  s.ss_family = AF_UNIX;
  EXPECT_FALSE(end_in(s).address.is_set());
}

TEST(SocketAddress, EndsOfASocket) {
  const Address here = *parse_address("127.0.0.1");
  const Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_FALSE(other_end(fd.get()).address.is_set()) << "not connected";
  const SocketAddress to = socket_address({here, 9});
  ASSERT_EQ(::connect(fd.get(), to.get(), to.size), 0);
  EXPECT_EQ(own_end(fd.get()).address, here);
  EXPECT_NE(own_end(fd.get()).port, 0);
  EXPECT_EQ(other_end(fd.get()).address, here);
  EXPECT_EQ(other_end(fd.get()).port, 9);
  EXPECT_FALSE(own_end(-1).address.is_set());
}

} // namespace
} // namespace doppel
