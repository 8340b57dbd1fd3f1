// SPDX-License-Identifier: Apache-2.0
#include "userspace/util/text.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "userspace/util/address.h"

namespace doppel {
namespace {
TEST(Text, Number) {
  EXPECT_EQ(parse_number("0", 10), 0u);
  EXPECT_EQ(parse_number("10", 10), 10u);
  EXPECT_EQ(parse_number("18446744073709551615", UINT64_MAX), UINT64_MAX);
  for (const char *bad : {"", "11", "-1", "+1", " 1", "1 ", "0x1", "1.0", "18446744073709551616"})
    EXPECT_FALSE(parse_number(bad, 10)) << bad;
}

TEST(Text, Ports) {
  EXPECT_EQ(parse_ports("1-65535")->last, 65535);
  EXPECT_EQ(parse_ports("7")->first, 7);
  EXPECT_EQ(parse_ports("7")->last, 7);
  for (const char *bad : {"", "-", "1-", "-1", "1-2-3", "0", "65536", "2-1", "1,2", "a", "1 - 2"})
    EXPECT_FALSE(parse_ports(bad)) << bad;
  EXPECT_EQ(ports_text({5, 5}), "5");
  EXPECT_EQ(ports_text({5, 6}), "5-6");
}

TEST(Text, PortList) {
  const auto list = parse_port_list("8080,9148-9150\n");
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].first, 8080);
  EXPECT_EQ(list[1].first, 9148);
  EXPECT_EQ(list[1].last, 9150);
  EXPECT_TRUE(parse_port_list("\n").empty());
  EXPECT_TRUE(parse_port_list("").empty());
}

TEST(Text, Nearest) {
  const std::vector<std::string> words = {"name", "device", "direction", "ports", "protocol"};
  EXPECT_EQ(nearest("nmae", words), "name");
  EXPECT_EQ(nearest("names", words), "name");
  EXPECT_EQ(nearest("port", words), "ports");
  EXPECT_EQ(nearest("dev", words), "device");
  EXPECT_EQ(nearest("driection", words), "direction");
  EXPECT_EQ(nearest("proto", words), "protocol");
  EXPECT_EQ(nearest("weight", words), std::nullopt);
  EXPECT_EQ(nearest("", words), std::nullopt);
  EXPECT_EQ(nearest(std::string(10'000, 'n'), words), std::nullopt);
  EXPECT_EQ(nearest("x", {}), std::nullopt);
}

TEST(Text, QuotesShowControlBytes) {
  EXPECT_EQ(in_quotes("a\x1b[2J"), "\"a\\x1b[2J\"");
  EXPECT_EQ(in_quotes(std::string(100, 'a')), "\"" + std::string(64, 'a') + "...\"");
}

TEST(Text, Address) {
  EXPECT_EQ(parse_address("192.168.2.184")->text(), "192.168.2.184");
  EXPECT_TRUE(parse_address("192.168.2.184")->is_v4());
  EXPECT_TRUE(parse_address("::ffff:1.2.3.4")->is_v4());
  EXPECT_FALSE(parse_address("2001:db8::1")->is_v4());
  EXPECT_EQ(parse_address("2001:db8:0::1")->text(), "2001:db8::1");
  for (const char *bad : {"", "1", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4x", "[::1]", "a"})
    EXPECT_FALSE(parse_address(bad)) << bad;
  EXPECT_FALSE(parse_address(std::string("1.2.3.4\0x", 9)));
  EXPECT_EQ(*parse_address("1.2.3.4"), *parse_address("::ffff:1.2.3.4"));
  EXPECT_EQ(endpoint_text(*parse_address("1.2.3.4"), 5), "1.2.3.4:5");
  EXPECT_EQ(endpoint_text(*parse_address("::1"), 5), "[::1]:5");
}

TEST(Text, FamilyAndWhetherThereIsAnAddress) {
  const struct {
    const char *text;
    Family family;
    bool is_set;
  } cases[] = {{"10.0.0.1", Family::v4, true},
               {"0.0.0.0", Family::v4, true}, // an address, though no host's
               {"2001:db8::1", Family::v6, true},
               {"::", Family::none, false}};
  for (const auto &c : cases) {
    const auto a = parse_address(c.text);
    ASSERT_TRUE(a) << c.text;
    EXPECT_EQ(a->family(), c.family) << c.text;
    EXPECT_EQ(a->is_set(), c.is_set) << c.text;
  }
  EXPECT_FALSE(Address{}.is_set());
}

TEST(Text, HostAddress) {
  for (const char *good : {"10.0.0.1", "127.0.0.1", "223.255.255.255", "2001:db8::1"})
    EXPECT_TRUE(is_host_address(*parse_address(good))) << good;
  for (const char *bad :
       {"0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "ff02::1"})
    EXPECT_FALSE(is_host_address(*parse_address(bad))) << bad;
}

TEST(Text, AddressesThatAreSpecial) {
  const auto holds = [](bool (*what)(const Address &), std::vector<std::string> all) {
    return std::all_of(all.begin(), all.end(),
                       [&](const std::string &a) { return what(*parse_address(a)); });
  };
  const auto fails = [](bool (*what)(const Address &), std::vector<std::string> all) {
    return std::none_of(all.begin(), all.end(),
                        [&](const std::string &a) { return what(*parse_address(a)); });
  };
  EXPECT_TRUE(holds(is_loopback, {"127.0.0.1", "127.255.0.9", "::1"}));
  EXPECT_TRUE(fails(is_loopback, {"126.0.0.1", "128.0.0.1", "::", "::2", "::7f00:1", "1::1"}));
  EXPECT_TRUE(holds(is_any, {"0.0.0.0", "::"}));
  EXPECT_TRUE(fails(is_any, {"0.0.0.1", "::1", "2001:db8::"}));
  EXPECT_TRUE(holds(needs_scope, {"fe80::1", "febf:ffff::"}));
  EXPECT_TRUE(fails(needs_scope, {"fec0::1", "fe7f::1", "fd00::1", "169.254.0.1", "::"}));
}

TEST(Text, PrefixesOfBothFamilies) {
  const struct {
    const char *address;
    unsigned length;
    const char *in, *out;
  } cases[] = {{"10.0.0.0", 8, "10.255.255.255", "11.0.0.0"},
               {"10.0.0.2", 32, "10.0.0.2", "10.0.0.3"},
               {"10.0.0.128", 25, "10.0.0.129", "10.0.0.127"},
               {"10.0.0.0", 0, "192.0.2.1", "2001:db8::1"},
               {"2001:db8::", 32, "2001:db8:ffff::1", "2001:db9::"},
               {"2001:db8::1", 128, "2001:db8::1", "2001:db8::2"},
               {"2001:db8::8000", 113, "2001:db8::8001", "2001:db8::7fff"},
               {"2001:db8::", 0, "fd00::1", "10.0.0.1"}};
  for (const auto &c : cases) {
    const Address a = *parse_address(c.address);
    const Prefix p{a.family(), a, c.length};
    EXPECT_TRUE(p.contains(*parse_address(c.in))) << c.address << "/" << c.length;
    EXPECT_FALSE(p.contains(*parse_address(c.out))) << c.address << "/" << c.length;
    EXPECT_FALSE(p.contains(Address{}));
  }
  EXPECT_FALSE(Prefix{}.contains(Address{}));
  EXPECT_FALSE(Prefix{}.contains(*parse_address("10.0.0.1")));
  EXPECT_TRUE((Prefix{Family::v6, {}, 0}.contains(*parse_address("2001:db8::1"))));
}

} // namespace
} // namespace doppel
