// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/unit/show_errors.h"
#include "userspace/config/config.h"

namespace doppel {
namespace {
TEST(Options, EachXIsAMapping) {
  const auto c =
      config_from_options("eth0", {"11211-192.168.2.184:21211", "11212-192.168.2.184:11212"});
  ASSERT_TRUE(c) << show_errors(c.errors());
  EXPECT_EQ(c->source, "command line");
  ASSERT_EQ(c->mappings.size(), 2u);
  const MappingConfig &m = c->mappings[0];
  EXPECT_EQ(m.name, "11211");
  EXPECT_EQ(m.device, "eth0");
  EXPECT_EQ(m.direction, DP_DIR_INGRESS);
  EXPECT_EQ(m.port_first, 11211);
  EXPECT_EQ(m.port_last, 11211);
  EXPECT_EQ(m.where, "-x 11211-192.168.2.184:21211");
  ASSERT_EQ(m.targets.size(), 1u);
  EXPECT_EQ(m.targets[0].address.text(), "192.168.2.184");
  EXPECT_EQ(m.targets[0].port, 21211);
  EXPECT_EQ(c->mappings[1].name, "11212");
}

TEST(Options, IPv6StandsInBrackets) {
  const auto c = config_from_options("eth0", {"11211-[2001:db8::1]:11311"});
  ASSERT_TRUE(c) << show_errors(c.errors());
  const TargetConfig &t = c->mappings[0].targets[0];
  EXPECT_EQ(c->mappings[0].name, "11211");
  EXPECT_EQ(endpoint_text(t.address, t.port), "[2001:db8::1]:11311");
}

struct BadX {
  const char *x, *what, *hint;
};

const char *const form = "is not of the form LOCALPORT-TARGETIP:TARGETPORT";
const char *const form_hint = "write, for instance: -x 11211-192.168.2.184:11211";
const char *const form6_hint = "write, for instance: -x 11211-[2001:db8::1]:11211";
const char *const global_hint = "give a global or unique-local address of the target";
const char *const port_hint = "ports go from 1 to 65535";
const char *const number_hint =
    "write the target's address in numbers: host names are not looked up";

TEST(Options, BadX) {
  const BadX cases[] = {
      {"", form, form_hint},
      {"11211", form, form_hint},
      {"11211:10.0.0.2-11211", form, form_hint},
      {"11211-10.0.0.2", form, form_hint},
      {"0-10.0.0.2:1", "\"0\" is not a port", port_hint},
      {"http-10.0.0.2:1", "\"http\" is not a port", port_hint},
      {"65536-10.0.0.2:1", "\"65536\" is not a port", port_hint},
      {"1-10.0.0.2:", "\"\" is not a port", port_hint},
      {"1-10.0.0.2:99999", "\"99999\" is not a port", port_hint},
      {"1-cache2:1", "\"cache2\" is not an IP address", number_hint},
      {"1-[10.0.0.2]:1", "only an IPv6 address stands in brackets", form_hint},
      {"1-[cache2]:1", "\"cache2\" is not an IP address", number_hint},
      {"1-0.0.0.0:1", "\"0.0.0.0\" is not the address of a host", ""},
      {"1-2001:db8::1:1", "the IPv6 address does not stand in brackets", form6_hint},
      {"1-2001:db8::1", "the IPv6 address does not stand in brackets", form6_hint},
      {"1-[2001:db8::1]", form, form6_hint},
      {"1-[2001:db8::1", form, form6_hint},
      {"1-[2001:db8::1]1", form, form6_hint},
      {"1-[2001:db8::1]:0", "\"0\" is not a port", port_hint},
      {"1-[2001:db8::1:1]:1:1", "\"1:1\" is not a port", port_hint},
      {"1-[2001:db8:1]:1", "\"2001:db8:1\" is not an IP address", number_hint},
      {"1-[fe80::1%eth0]:1",
       "\"fe80::1%eth0\" has a zone index: a target is reached by a route, not by a device",
       global_hint},
      {"1-[fe80::1]:1", "\"fe80::1\" is a link-local address, which any link may have",
       global_hint},
      {"1-[::1]:1", "\"::1\" is this host itself",
       "copies to this host are not supported: name another host"},
      {"1-[::]:1", "\"::\" is not the address of a host", ""},
      {"1-[ff0e::1]:1", "\"ff0e::1\" is not the address of a host", ""},
  };
  for (const BadX &c : cases) {
    const auto r = config_from_options("eth0", {c.x});
    ASSERT_FALSE(r) << c.x;
    ASSERT_EQ(r.errors().size(), 1u) << show_errors(r.errors());
    EXPECT_EQ(r.errors()[0].where, std::string("-x ") + c.x);
    EXPECT_EQ(r.errors()[0].what, c.what);
    EXPECT_EQ(r.errors()[0].hint, c.hint);
    EXPECT_EQ(r.errors()[0].exit, Exit::usage);
  }
}

TEST(Options, AllErrorsAtOnce) {
  const auto r = config_from_options("", {"a-b:c", "1-10.0.0.2:1", "1-10.0.0.3:1"});
  ASSERT_FALSE(r);
  std::vector<std::string> what;
  for (const Error &e : r.errors())
    what.push_back(e.where + ": " + e.what);
  EXPECT_EQ(what, (std::vector<std::string>{"--device: is missing", "-x a-b:c: \"a\" is not a port",
                                            "-x a-b:c: \"c\" is not a port",
                                            "-x a-b:c: \"b\" is not an IP address",
                                            "-x 1-10.0.0.3:1: the name \"1\" is taken by -x "
                                            "1-10.0.0.2:1"}));
}

TEST(Options, SamePortTwice) {
  const auto r = config_from_options("eth0", {"1-10.0.0.2:1", "1-10.0.0.3:1"});
  ASSERT_FALSE(r);
  ASSERT_EQ(r.errors().size(), 1u);
  EXPECT_EQ(r.errors()[0].what, "ports 1 overlap ports 1 of -x 1-10.0.0.2:1");
}

TEST(Options, NothingGiven) {
  const auto r = config_from_options("eth0", {});
  ASSERT_FALSE(r);
  EXPECT_EQ(r.errors()[0].where, "-x");
  EXPECT_EQ(r.errors()[0].what, "is missing");
}

} // namespace
} // namespace doppel
