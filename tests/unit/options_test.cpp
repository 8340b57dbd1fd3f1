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
  EXPECT_EQ(m.devices, std::vector<std::string>{"eth0"});
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

TEST(Options, ListsAndRanges) {
  const auto c = config_from_options(
      "eth0", {"11211-10.0.0.2:21211,11212-10.0.0.3:11212", "8080-8089-10.0.0.2:9080"});
  ASSERT_TRUE(c) << show_errors(c.errors());
  ASSERT_EQ(c->mappings.size(), 3u);
  const MappingConfig &second = c->mappings[1], &range = c->mappings[2];
  EXPECT_EQ(c->mappings[0].where, "-x 11211-10.0.0.2:21211");
  EXPECT_EQ(second.where, "-x 11212-10.0.0.3:11212");
  EXPECT_EQ(second.name, "11212");
  EXPECT_EQ(second.targets[0].address.text(), "10.0.0.3");
  EXPECT_EQ(range.name, "8080-8089");
  EXPECT_EQ(range.port_first, 8080);
  EXPECT_EQ(range.port_last, 8089);
  EXPECT_EQ(range.targets[0].port, 9080);
}

TEST(Options, ManyEntries) {
  std::string list;
  for (int i = 0; i < 60; i++)
    list += (i ? "," : "") + std::to_string(1000 + i) + "-10.0.0.2:" + std::to_string(1000 + i);
  const auto c = config_from_options("eth0", {list});
  ASSERT_TRUE(c) << show_errors(c.errors());
  EXPECT_EQ(c->mappings.size(), 60u);
}

TEST(Options, AddressOfTheService) {
  const auto c = config_from_options(
      "eth0", {"192.168.1.2:11211-11212-10.0.0.2:11211,[2001:db8::1]:11211-10.0.0.3:11211",
               "11211-10.0.0.2:1"});
  ASSERT_TRUE(c) << show_errors(c.errors());
  ASSERT_EQ(c->mappings.size(), 3u);
  EXPECT_EQ(c->mappings[0].address, *parse_address("192.168.1.2"));
  EXPECT_EQ(c->mappings[0].port_last, 11212);
  EXPECT_EQ(c->mappings[0].name, "192.168.1.2:11211-11212");
  EXPECT_EQ(c->mappings[1].address, *parse_address("2001:db8::1"));
  EXPECT_EQ(c->mappings[1].name, "[2001:db8::1]:11211");
  EXPECT_FALSE(c->mappings[2].address.is_set());
  EXPECT_EQ(c->mappings[2].name, "11211");
  // It is one address, however it is written.
  EXPECT_FALSE(
      config_from_options("eth0", {"[::ffff:10.0.0.1]:1-10.0.0.2:1", "10.0.0.1:1-10.0.0.2:1"}));
}

struct BadX {
  const char *x;
  int character; // where it is
  const char *what, *hint;
};

const char *const form = "is not of the form [LOCALIP:]LOCALPORT-TARGETIP:TARGETPORT";
const char *const form_hint = "write, for instance: -x 11211-192.168.2.184:11211";
const char *const global_hint = "give a global or unique-local address of the target";
const char *const leave =
    "leave it out: what arrives for the ports is mirrored, whatever its address";
const char *const port_hint = "ports go from 1 to 65535";
const char *const ports_hint = "write \"11211\" or \"11211-11212\"";
const char *const number_hint =
    "write the target's address in numbers: host names are not looked up";

TEST(Options, BadX) {
  const BadX cases[] = {
      {"", 1, form, form_hint},
      {"11211", 1, form, form_hint},
      {"11211:10.0.0.2-11211", 1, form, form_hint},
      {"11211-10.0.0.2", 1, form, form_hint},
      {"0-10.0.0.2:1", 1, "\"0\" is out of range", port_hint},
      {"http-10.0.0.2:1", 1, "\"http\" is not a port or a range of ports", ports_hint},
      {" 1-10.0.0.2:1", 1, "\" 1\" is not a port or a range of ports", ports_hint},
      {"-10.0.0.2:1", 1, "\"\" is not a port or a range of ports", ports_hint},
      {"1--10.0.0.2:1", 1, "\"1-\" is not a port or a range of ports", ports_hint},
      {"1-2-3-10.0.0.2:1", 1, "\"1-2-3\" is not a port or a range of ports", ports_hint},
      {"65536-10.0.0.2:1", 1, "\"65536\" is out of range", port_hint},
      {"2-1-10.0.0.2:1", 1, "the range \"2-1\" ends before it starts",
       "write the lower port first"},
      {"1-10.0.0.2:", 12, "\"\" is not a port", port_hint},
      {"1-10.0.0.2:99999", 12, "\"99999\" is not a port", port_hint},
      {"1-10.0.0.2:1-2", 1, form, form_hint},
      {"1-cache2:1", 3, "\"cache2\" is not an IP address", number_hint},
      {"1-:1", 3, "\"\" is not an IP address", number_hint},
      {"1-[10.0.0.2]:1", 3, "\"[10.0.0.2]\" is not an IP address", "brackets are for IPv6 alone"},
      {"1-2001:db8::1:1", 3, "\"2001:db8::1\" is not an IP address",
       "an IPv6 address stands in brackets: 11211-[2001:db8::1]:11211"},
      {"1-0.0.0.0:1", 3, "\"0.0.0.0\" is not the address of a host", ""},
      {"1-2001:db8::1", 3, "\"2001:db8:\" is not an IP address",
       "an IPv6 address stands in brackets: 11211-[2001:db8::1]:11211"},
      {"1-[2001:db8::1]", 1, form, form_hint},
      {"1-[2001:db8::1]:0", 17, "\"0\" is not a port", port_hint},
      {"1-[2001:db8:1]:1", 3, "\"2001:db8:1\" is not an IP address", number_hint},
      {"1-[fe80::1%eth0]:1", 3,
       "\"fe80::1%eth0\" has a zone index: a target is reached by a route, not by a device",
       global_hint},
      {"1-[fe80::1]:1", 3, "\"fe80::1\" is a link-local address, which any link may have",
       global_hint},
      {"1-[::]:1", 3, "\"::\" is not the address of a host", ""},
      {"1-[ff0e::1]:1", 3, "\"ff0e::1\" is not the address of a host", ""},
      {"0.0.0.0:1-10.0.0.2:1", 1, "\"0.0.0.0\" is every address", leave},
      {"[::]:1-10.0.0.2:1", 1, "\"::\" is every address", leave},
      {"[fe80::1]:1-10.0.0.2:1", 1, "\"fe80::1\" is a link-local address, which cannot be chosen",
       leave},
      {"[fe80::1%eth0]:1-10.0.0.2:1", 1,
       "\"fe80::1%eth0\" has a zone index: a link-local address cannot be chosen", leave},
      {"224.0.0.1:1-10.0.0.2:1", 1, "\"224.0.0.1\" is not the address of a host", ""},
      {"2001:db8::1:1-10.0.0.2:1", 1, "\"2001:db8::1\" is not an IP address",
       "an IPv6 address stands in brackets: 11211-[2001:db8::1]:11211"},
      {"cache1:1-10.0.0.2:1", 1, "\"cache1\" is not an IP address",
       "write this host's ports before the \"-\", and in front of them at most its address in "
       "numbers: -x 192.168.2.1:11211-192.168.2.184:11211"},
  };
  for (const BadX &c : cases) {
    const std::string entry = *c.x ? std::string(" ") + c.x : "";
    const auto r = config_from_options("eth0", {c.x});
    ASSERT_FALSE(r) << c.x;
    ASSERT_EQ(r.errors().size(), 1u) << show_errors(r.errors());
    EXPECT_EQ(r.errors()[0].where, "-x" + entry + ", character " + std::to_string(c.character));
    EXPECT_EQ(r.errors()[0].what, c.what);
    EXPECT_EQ(r.errors()[0].hint, c.hint);
    EXPECT_EQ(r.errors()[0].exit, Exit::usage);
  }
}

std::vector<std::string> told(const Errors &errors) {
  std::vector<std::string> list;
  for (const Error &e : errors)
    list.push_back(e.where + ": " + e.what);
  return list;
}

TEST(Options, AllErrorsAtOnce) {
  const auto r = config_from_options("", {"a-b:c", "1-10.0.0.2:1", "1-10.0.0.3:1"});
  ASSERT_FALSE(r);
  EXPECT_EQ(told(r.errors()), (std::vector<std::string>{
                                  "--device: is missing",
                                  "-x a-b:c, character 1: \"a\" is not a port or a range of ports",
                                  "-x a-b:c, character 3: \"b\" is not an IP address",
                                  "-x a-b:c, character 5: \"c\" is not a port",
                                  "-x 1-10.0.0.3:1: the name \"1\" is taken by -x 1-10.0.0.2:1"}));
}

TEST(Options, PlacesAreThoseInTheList) {
  const auto r = config_from_options("eth0", {"1-10.0.0.2:1,,2-10.0.0.2:x,3-10.0.0.2:3,"});
  ASSERT_FALSE(r);
  EXPECT_EQ(told(r.errors()),
            (std::vector<std::string>{"-x, character 14: " + std::string(form),
                                      "-x 2-10.0.0.2:x, character 26: \"x\" is not a port",
                                      "-x, character 41: " + std::string(form)}));
}

TEST(Options, RangesMayNotOverlapNorRunOut) {
  const auto r = config_from_options("eth0", {"1-9-10.0.0.2:1,9-10.0.0.2:9,20-29-10.0.0.2:65530"});
  ASSERT_FALSE(r);
  EXPECT_EQ(
      told(r.errors()),
      (std::vector<std::string>{
          "-x 9-10.0.0.2:9: ports 9 overlap ports 1-9 of -x 1-9-10.0.0.2:1",
          "-x 20-29-10.0.0.2:65530: the mapping's 10 ports run past port 65535 on the target"}));
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
