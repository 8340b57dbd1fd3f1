// SPDX-License-Identifier: Apache-2.0
#include "userspace/memcached/server.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "userspace/memcached/access.h"

namespace doppel::memcached {
namespace {
TEST(MemcachedServer, IsReadAsItIsWritten) {
  const struct {
    const char *text, *host;
    uint16_t port;
    const char *path, *shown;
  } cases[] = {
      {"cache1", "cache1", 11211, "", "cache1:11211"},
      {"cache1:1", "cache1", 1, "", "cache1:1"},
      {"10.0.0.1:65535", "10.0.0.1", 65535, "", "10.0.0.1:65535"},
      {"[2001:db8::1]:7", "2001:db8::1", 7, "", "[2001:db8::1]:7"},
      {"[fe80::1%eth0]", "fe80::1%eth0", 11211, "", "[fe80::1%eth0]:11211"},
      {"::1", "::1", 11211, "", "[::1]:11211"},
      {"/run/memcached.sock", "", 11211, "/run/memcached.sock", "/run/memcached.sock"},
  };
  for (const auto &c : cases) {
    const auto s = parse_server(c.text);
    ASSERT_TRUE(s) << c.text;
    EXPECT_EQ(s->host, c.host);
    EXPECT_EQ(s->port, c.port);
    EXPECT_EQ(s->path, c.path);
    EXPECT_EQ(s->text(), c.shown);
  }
  EXPECT_EQ(parse_server("a", 5)->port, 5);
}

TEST(MemcachedServer, NonsenseIsRefused) {
  const std::string long_path = "/" + std::string(107, 'p');
  for (const char *bad :
       {"", ":1", "a:", "a:0", "a:65536", "a:b", "a:1:2", "[::1", "[::1]1", "[::1]:", "[a]:1", "[]",
        "a b", "-a", "a/b", "http://a:1", long_path.c_str()}) {
    const auto s = parse_server(bad);
    ASSERT_FALSE(s) << bad;
    EXPECT_EQ(s.errors()[0].exit, Exit::usage);
  }
  EXPECT_TRUE(parse_server("/" + std::string(106, 'p')));
}

TEST(MemcachedServer, AuthFileHasOneLine) {
  const std::string file = ::testing::TempDir() + "doppel_auth_test";
  const auto read = [&](const std::string &text) {
    std::ofstream(file) << text;
    Access access;
    const bool good = bool(read_auth_file(file, access));
    return good ? access.user + "|" + access.password : "refused";
  };
  EXPECT_EQ(read("user:pass\n"), "user|pass");
  EXPECT_EQ(read("user:p:ass\r\nother:line\n"), "user|p:ass");
  for (const char *bad : {"", "\n", "user\n", ":pass\n", "user:\n", "u ser:pass\n", "user:pa ss\n"})
    EXPECT_EQ(read(bad), "refused") << bad;
  std::remove(file.c_str());
  Access access;
  EXPECT_FALSE(read_auth_file(file, access));
}

} // namespace
} // namespace doppel::memcached
