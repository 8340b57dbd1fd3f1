// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/endpoint.h"

#include <gtest/gtest.h>

namespace doppel {
namespace {
bool holds(const char *prefix, const char *address) {
  return parse_prefix(prefix).value().contains(parse_address(address).value());
}

TEST(Endpoint, Text) {
  for (const char *text : {"192.168.2.184:11211", "[2001:db8::1]:11211", "10.0.0.1:1"})
    EXPECT_EQ(parse_endpoint(text).value().text(), text);
  for (const char *bad :
       {"", ":", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", ":80", "[10.0.0.1]:80",
        "2001:db8::1:80", "[2001:db8::1]", "cache2:80", "10.0.0.1:80 ", "[]:80", "]:80"})
    EXPECT_FALSE(parse_endpoint(bad)) << bad;
  EXPECT_EQ(Endpoint{}.text(), "");
}

TEST(Endpoint, OrderIsThatOfNumbers) {
  const auto at = [](const char *text) { return parse_endpoint(text).value(); };
  EXPECT_LT(at("10.0.0.9:1"), at("10.0.0.10:1"));
  EXPECT_LT(at("10.0.0.9:9"), at("10.0.0.9:10"));
  EXPECT_LT(at("10.0.0.9:10"), at("[2001:db8::1]:1"));
  EXPECT_EQ(at("10.0.0.9:10"), at("10.0.0.9:10"));
}

TEST(Prefix, Holds) {
  EXPECT_TRUE(holds("10.1.2.3", "10.1.2.3"));
  EXPECT_FALSE(holds("10.1.2.3", "10.1.2.2"));
  EXPECT_TRUE(holds("10.0.0.0/8", "10.255.0.1"));
  EXPECT_FALSE(holds("10.0.0.0/8", "11.0.0.1"));
  EXPECT_TRUE(holds("10.1.2.3/31", "10.1.2.2")) << "what stands behind the bits does not count";
  EXPECT_FALSE(holds("10.1.2.3/31", "10.1.2.4"));
  EXPECT_TRUE(holds("0.0.0.0/0", "200.1.2.3"));
  EXPECT_FALSE(holds("0.0.0.0/0", "2001:db8::1"));
  EXPECT_TRUE(holds("::/0", "2001:db8::1"));
  EXPECT_FALSE(holds("::/0", "10.0.0.1")) << "another family";
  EXPECT_TRUE(holds("2001:db8::/32", "2001:db8:ffff::1"));
  EXPECT_FALSE(holds("2001:db8::/32", "2001:db9::1"));
  EXPECT_TRUE(holds("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(holds("2001:db8::/33", "2001:db8:8000::1"));
  EXPECT_TRUE(holds("2001:db8::1/128", "2001:db8::1"));
  EXPECT_FALSE(holds("2001:db8::1", "2001:db8::2"));
}

TEST(Prefix, BadText) {
  for (const char *bad :
       {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/8/8", "2001:db8::/129",
        "[2001:db8::]/32", "10.0.0.0/+8", "10.0.0.1:80", "cache"})
    EXPECT_FALSE(parse_prefix(bad)) << bad;
}

} // namespace
} // namespace doppel
