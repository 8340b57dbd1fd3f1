// SPDX-License-Identifier: Apache-2.0
#include "userspace/config/config.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cstdio>
#include <set>

#include "tests/unit/show_errors.h"

namespace doppel {
namespace {
const std::string one_mapping =
    R"({"device": "eth0", "ports": 11211, "targets": [{"address": "10.0.0.2", "port": 11211}]})";

// A file with one mapping, in which `key` has the value `value`, on line 1.
std::string with(const std::string &key, const std::string &value) {
  return "{\"" + key + "\": " + value + ", \"mappings\": [" + one_mapping + "]}";
}

// The same, for a key of the mapping; a key that it has already is replaced.
std::string mapping_with(const std::string &key, const std::string &value) {
  std::string m = "{";
  if (key != "device")
    m += "\"device\": \"eth0\", ";
  if (key != "ports")
    m += "\"ports\": 11211, ";
  if (key != "targets")
    m += "\"targets\": [{\"address\": \"10.0.0.2\", \"port\": 11211}], ";
  return "{\"mappings\": [" + m + "\"" + key + "\": " + value + "}]}";
}

std::string target_with(const std::string &address, const std::string &port = "11211") {
  return mapping_with("targets", "[{\"address\": \"" + address + "\", \"port\": " + port + "}]");
}

TEST(Config, EveryKeyIsRead) {
  const auto c = parse_config(R"({
  // comments of both kinds are allowed
  "attach_mode": "clsact", /* here too */
  "flows": 1000, "shadow_ports": "20000-20999", "store": "16MiB", "flow_cap": 1048576,
  "idle_timeout": "1min", "udp_timeout": "30s", "rto_min": "100ms", "rto_max": "5s", "tries": 3,
  "syn_tries": 4, "backoff": "50ms", "keepalive": "30s", "embryonic": 7,
  "mappings": [{
    "name": "data", "device": "eth0", "direction": "egress", "protocol": "tcp",
    "ports": "11211-11212", "application": "memcached", "join": "never", "promiscuous": true,
    "bypass_ipsec": true, "converge": false, "max_bitrate": "1Mbit", "address": "2001:db8::1",
    "targets": [{"address": "192.168.2.184", "port": 21211}, {"address": "10.1.2.3", "port": 1}]
  }]
})",
                              "doppel.json");
  ASSERT_TRUE(c) << show_errors(c.errors());
  EXPECT_EQ(c->source, "doppel.json");
  EXPECT_EQ(c->attach_mode, AttachMode::clsact);
  EXPECT_EQ(c->limits.flows, 1000u);
  EXPECT_EQ(c->limits.port_first, 20000);
  EXPECT_EQ(c->limits.port_last, 20999);
  EXPECT_EQ(c->limits.store_bytes, 16u << 20);
  EXPECT_EQ(c->limits.flow_cap, 1u << 20);
  EXPECT_EQ(c->limits.idle_s, 60u);
  EXPECT_EQ(c->limits.udp_timeout_s, 30u);
  EXPECT_EQ(c->limits.rto_min_ms, 100u);
  EXPECT_EQ(c->limits.rto_max_ms, 5000u);
  EXPECT_EQ(c->limits.tries, 3u);
  EXPECT_EQ(c->limits.syn_tries, 4u);
  EXPECT_EQ(c->limits.backoff_ms, 50u);
  EXPECT_EQ(c->limits.keepalive_s, 30u);
  EXPECT_EQ(c->limits.embryonic, 7u);
  EXPECT_TRUE(c->former.empty());
  ASSERT_EQ(c->mappings.size(), 1u);
  const MappingConfig &m = c->mappings[0];
  EXPECT_EQ(m.name, "data");
  EXPECT_EQ(m.devices, std::vector<std::string>{"eth0"});
  EXPECT_EQ(m.direction, DP_DIR_EGRESS);
  EXPECT_EQ(m.protocol, IPPROTO_TCP);
  EXPECT_EQ(m.port_first, 11211);
  EXPECT_EQ(m.port_last, 11212);
  EXPECT_EQ(m.address.text(), "2001:db8::1");
  EXPECT_EQ(m.application, DP_APP_MEMCACHED);
  EXPECT_FALSE(m.join);
  EXPECT_TRUE(m.any_host);
  EXPECT_TRUE(m.bypass_ipsec);
  EXPECT_FALSE(m.converge);
  EXPECT_EQ(m.max_bps, 1'000'000u);
  EXPECT_EQ(m.where, "doppel.json:7: mappings[0]");
  ASSERT_EQ(m.targets.size(), 2u);
  EXPECT_EQ(m.targets[0].address.text(), "192.168.2.184");
  EXPECT_EQ(m.targets[0].port, 21211);
  EXPECT_EQ(m.targets[1].where, "doppel.json:11: mappings[0].targets[1]");
}

// Of a source that is this host.
TEST(Config, ConvergeIsRead) {
  const auto c = parse_config(R"({"mappings": [{"device": "eth0", "ports": 11211,
    "application": "memcached", "converge": true,
    "targets": [{"address": "10.0.0.2", "port": 11211}]}]})",
                              "f");
  ASSERT_TRUE(c) << show_errors(c.errors());
  EXPECT_TRUE(c->mappings[0].converge);
}

TEST(Config, TargetsOfBothFamilies) {
  const auto c = parse_config(R"({"mappings": [{"device": "eth0", "ports": 11211, "targets": [
    {"address": "2001:DB8:0::1", "port": 11211}, {"address": "10.0.0.2", "port": 1},
    {"address": "::ffff:10.0.0.3", "port": 1}]}]})",
                              "f");
  ASSERT_TRUE(c) << show_errors(c.errors());
  const auto &targets = c->mappings[0].targets;
  EXPECT_EQ(endpoint_text(targets[0].address, targets[0].port), "[2001:db8::1]:11211");
  EXPECT_EQ(targets[2].address, *parse_address("10.0.0.3")) << "IPv4, as it says";
  EXPECT_EQ(target_families(*c), (std::set{Family::v4, Family::v6}));
}

// A file of yesterday means what it meant.
TEST(Config, FormerSpellings) {
  const auto c = parse_config(R"({
  "idle_timeout": 60,
  "rto_min_ms": 100, "rto_max_ms": 5000,
  "backoff_ms": 50, "store": 16777216,
  "mappings": [{"device": "eth0", "ports": 11211, "max_bitrate": 1000000,
    "targets": [{"address": "10.0.0.2", "port": 11211}]}]
})",
                              "f");
  ASSERT_TRUE(c) << show_errors(c.errors());
  EXPECT_EQ(c->limits.idle_s, 60u);
  EXPECT_EQ(c->limits.rto_min_ms, 100u);
  EXPECT_EQ(c->limits.rto_max_ms, 5000u);
  EXPECT_EQ(c->limits.backoff_ms, 50u);
  EXPECT_EQ(c->limits.store_bytes, 16u << 20);
  EXPECT_EQ(c->mappings[0].max_bps, 1'000'000u);
  EXPECT_EQ(c->former,
            (std::vector<std::string>{
                "f:2: idle_timeout: a number is the former spelling: write \"1min\"",
                "f:3: rto_min_ms: this is the former spelling of \"rto_min\": \"100ms\"",
                "f:3: rto_max_ms: this is the former spelling of \"rto_max\": \"5s\"",
                "f:4: backoff_ms: this is the former spelling of \"backoff\": \"50ms\""}));
}

TEST(Config, DefaultsAreThoseOfTheHeader) {
  const auto c = parse_config("{\"mappings\": [" + one_mapping + "]}", "f");
  ASSERT_TRUE(c) << show_errors(c.errors());
  const Limits expected;
  EXPECT_EQ(c->attach_mode, AttachMode::automatic);
  EXPECT_EQ(c->limits.flows, expected.flows);
  EXPECT_EQ(c->limits.port_first, 16384);
  EXPECT_EQ(c->limits.port_last, 32767);
  EXPECT_EQ(c->limits.store_bytes, expected.store_bytes);
  EXPECT_EQ(c->limits.flow_cap, expected.flow_cap);
  const MappingConfig &m = c->mappings.at(0);
  EXPECT_EQ(m.name, "11211") << "a mapping without a name is named after its ports";
  EXPECT_EQ(m.direction, DP_DIR_INGRESS);
  EXPECT_EQ(m.application, DP_APP_AUTO);
  EXPECT_TRUE(m.join);
  EXPECT_FALSE(m.any_host);
  EXPECT_EQ(m.max_bps, 0u);
}

struct Bad {
  const char *name;
  std::string text;
  std::string where, what, hint; // of the only error
};

void PrintTo(const Bad &bad, std::ostream *out) { *out << bad.name; }

class BadConfig : public testing::TestWithParam<Bad> {};

TEST_P(BadConfig, HasExactlyThisError) {
  const Bad &bad = GetParam();
  const auto c = parse_config(bad.text, "f");
  ASSERT_FALSE(c);
  ASSERT_EQ(c.errors().size(), 1u) << show_errors(c.errors());
  const Error &e = c.errors()[0];
  EXPECT_EQ(e.where, bad.where);
  EXPECT_EQ(e.what, bad.what);
  EXPECT_EQ(e.hint, bad.hint);
  EXPECT_EQ(e.exit, Exit::usage);
}

const std::string m0 = "f:1: mappings[0]", t0 = m0 + ".targets[0]";
const std::string port_hint = "write \"11211\" or \"11211-11212\"";
const std::string size_hint = "write bytes, or a whole number with KiB, MiB or GiB: \"64MiB\"";
const std::string store_range = "give a size from \"1MiB\" to \"64GiB\"";
const std::string time_hint = "write a whole number with ms, s, min, h or d: \"250ms\"";
const std::string rto_hint = "the timeout starts at the one and doubles up to the other";
const std::string name_hint = "use 1 to 32 letters, digits, \".\", \"_\" and \"-\"";
const std::string address_hint =
    "write the target's address in numbers: host names are not looked up";
const std::string global_hint = "give a global or unique-local address of the target";
const std::string comma_hint = "a comma too many or too few before this place is the usual cause";
const std::string known_target = "known here are \"address\", \"port\", \"sample\", \"copies\", "
                                 "\"shadow_addresses\", \"source_address\", \"preamble\", "
                                 "\"preamble_base64\", \"preamble_file\"";

INSTANTIATE_TEST_SUITE_P(
    Structure, BadConfig,
    testing::Values(
        Bad{"not_an_object", "[]", "f:1", "must be an object, not an array", ""},
        Bad{"no_mappings", "{}", "f:1", "the key \"mappings\" is missing", ""},
        Bad{"mappings_empty", R"({"mappings": []})", "f:1: mappings",
            "the list of mappings is empty", "name at least one mapping"},
        Bad{"mappings_type", R"({"mappings": {}})", "f:1: mappings",
            "must be an array, not an object", ""},
        Bad{"mapping_type", R"({"mappings": [7]})", m0, "must be an object, not a whole number",
            ""},
        Bad{"unknown_key_near", with("flow", "1000"), "f:1: flow", "unknown key \"flow\"",
            "did you mean \"flows\"?"},
        Bad{"unknown_key_swapped", mapping_with("nmae", "\"x\""), m0 + ".nmae",
            "unknown key \"nmae\"", "did you mean \"name\"?"},
        Bad{"unknown_key_far",
            mapping_with("targets", R"([{"address": "10.0.0.2", "port": 1, "weight": 2}])"),
            t0 + ".weight", "unknown key \"weight\"", known_target},
        Bad{"unknown_key_odd",
            mapping_with("targets", R"([{"address": "10.0.0.2", "port": 1, "a\nb": 2}])"),
            t0 + ".?", "unknown key \"a\\x0ab\"", known_target},
        Bad{"key_twice", with("flows", "100, \"flows\": 200"), "f:1: flows",
            "the key \"flows\" is given twice", "remove one of the two"},
        Bad{"device_missing",
            R"({"mappings": [{"ports": 1, "targets": [{"address": "10.0.0.2", "port": 1}]}]})", m0,
            "the key \"device\" is missing", ""},
        Bad{"ports_missing",
            R"({"mappings": [{"device": "e", "targets": [{"address": "10.0.0.2", "port": 1}]}]})",
            m0, "the key \"ports\" is missing", ""},
        Bad{"targets_missing", R"({"mappings": [{"device": "e", "ports": 1}]})", m0,
            "the key \"targets\" is missing", ""},
        Bad{"targets_empty", mapping_with("targets", "[]"), m0 + ".targets",
            "the list of targets is empty", "name at least one target"},
        Bad{"address_missing", mapping_with("targets", R"([{"port": 1}])"), t0,
            "the key \"address\" is missing", ""},
        Bad{"port_missing", mapping_with("targets", R"([{"address": "10.0.0.2"}])"), t0,
            "the key \"port\" is missing", ""}),
    testing::PrintToStringParamName());

std::string target_and(const std::string &member) {
  return mapping_with("targets", R"([{"address": "10.0.0.2", "port": 1, )" + member + "}]");
}

TEST(Config, ShadowAddresses) {
  const auto c = parse_config(target_and(R"("shadow_addresses": ["10.0.0.3", "10.0.0.4"])"), "f");
  ASSERT_TRUE(c) << show_errors(c.errors());
  const auto &list = c->mappings[0].targets[0].shadow_addresses;
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].address.text(), "10.0.0.3");
  EXPECT_EQ(list[1].address.text(), "10.0.0.4");
  EXPECT_EQ(list[1].where, "f:1: mappings[0].targets[0].shadow_addresses[1]");
  const auto six = parse_config(mapping_with("targets", R"([
      {"address": "2001:db8::2", "port": 1, "shadow_addresses": ["2001:db8::3"]},
      {"address": "10.0.0.2", "port": 2, "shadow_addresses": ["10.0.0.3"]},
      {"address": "10.0.0.9", "port": 2, "shadow_addresses": ["10.0.0.3"]}])"),
                                "f");
  ASSERT_TRUE(six) << show_errors(six.errors());
  EXPECT_EQ(shadow_addresses(*six).size(), 2u) << "targets may have the same";
}

// So many addresses, seven for each target.
std::string with_shadow_addresses(unsigned n, const std::string &ports) {
  std::string targets;
  for (unsigned i = 0; i < n; i++) {
    const std::string net = "10.0." + std::to_string(i / 7) + ".";
    if (i % 7 == 0)
      targets += (i ? "]}, " : "") + ("{\"address\": \"" + net + "2\", \"port\": 1, ") +
                 "\"shadow_addresses\": [";
    targets += (i % 7 ? ", \"" : "\"") + net + std::to_string(3 + i % 7) + "\"";
  }
  return "{\"shadow_ports\": \"" + ports +
         "\", \"mappings\": [{\"device\": \"e\", \"ports\": 1, \"targets\": [" + targets + "]}]}]}";
}

// A request of the data plane's to itself has so many bits for a shadow.
TEST(Config, ShadowAddressesHaveRoom) {
  EXPECT_TRUE(parse_config(with_shadow_addresses(15, "1024-65535"), "f"));
  const auto refused = parse_config(with_shadow_addresses(16, "1024-65535"), "f");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.errors()[0].what,
            "16 \"shadow_addresses\" and the routes' own, with 64512 \"shadow_ports\" each, are "
            "more than the 1048576 that fit");
  EXPECT_TRUE(parse_config(with_shadow_addresses(56, "20000-20999"), "f"));
}

INSTANTIATE_TEST_SUITE_P(
    ShadowAddresses, BadConfig,
    testing::Values(
        Bad{"type", target_and(R"("shadow_addresses": "10.0.0.3")"), t0 + ".shadow_addresses",
            "must be an array, not a string", ""},
        Bad{"empty", target_and(R"("shadow_addresses": [])"), t0 + ".shadow_addresses",
            "the list of addresses is empty",
            "leave it out: copies come from the address that the route says"},
        Bad{"name", target_and(R"("shadow_addresses": ["eth0"])"), t0 + ".shadow_addresses[0]",
            "\"eth0\" is not an IP address",
            "write in numbers an address of this host: `ip address` lists them"},
        Bad{"item", target_and(R"("shadow_addresses": [3])"), t0 + ".shadow_addresses[0]",
            "must be a string, not a whole number", ""},
        Bad{"loopback", target_and(R"("shadow_addresses": ["127.0.0.1"])"),
            t0 + ".shadow_addresses[0]",
            "\"127.0.0.1\" is a loopback address, from which no other host can be reached",
            "give an address that the target has a route to"},
        Bad{"multicast", target_and(R"("shadow_addresses": ["224.0.0.1"])"),
            t0 + ".shadow_addresses[0]", "\"224.0.0.1\" is not the address of a host", ""},
        Bad{"link_local", target_and(R"("shadow_addresses": ["fe80::1"])"),
            t0 + ".shadow_addresses[0]",
            "\"fe80::1\" is a link-local address, which any link may have",
            "give a global or unique-local address of this host"},
        Bad{"zone", target_and(R"("shadow_addresses": ["fe80::1%eth0"])"),
            t0 + ".shadow_addresses[0]",
            "\"fe80::1%eth0\" has a zone index: copies come from an address, not from a device",
            "give a global or unique-local address of this host"},
        Bad{"brackets", target_and(R"("shadow_addresses": ["[2001:db8::1]"])"),
            t0 + ".shadow_addresses[0]", "\"[2001:db8::1]\" stands in brackets",
            "\"shadow_ports\" says the ports: leave them out"},
        Bad{"twice", target_and(R"("shadow_addresses": ["10.0.0.3", "10.0.0.3"])"),
            t0 + ".shadow_addresses[1]", "the address 10.0.0.3 is given twice",
            "it has all of \"shadow_ports\" once"},
        Bad{"family", target_and(R"("shadow_addresses": ["2001:db8::1"])"),
            t0 + ".shadow_addresses[0]",
            "the address 2001:db8::1 is of IPv6, and the target 10.0.0.2 of IPv4",
            "copies come from addresses of the target's family"},
        Bad{"many",
            target_and(R"("shadow_addresses": ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6",
                                               "10.0.0.7", "10.0.0.8", "10.0.0.9", "10.0.0.10"])"),
            t0 + ".shadow_addresses",
            "lists 8 addresses, and 7 are the most beside the route's own", "name fewer"},
        Bad{"store", R"({"store": "1MiB", "shadow_ports": "1024-36863", "mappings": [
              {"device": "e", "ports": 1, "targets": [{"address": "10.0.0.2", "port": 1,
               "shadow_addresses": ["10.0.0.3"]}]}]})",
            "f", "\"store\" (1048576 bytes) is too small for 71680 \"shadow_ports\" of 2 addresses",
            "give at least 2293760 bytes, or fewer ports: one shadow in 64 must be able to hold "
            "something"}),
    testing::PrintToStringParamName());

INSTANTIATE_TEST_SUITE_P(
    Preamble, BadConfig,
    testing::Values(
        Bad{"no_line", target_and(R"("preamble": "AUTH secret")"), t0 + ".preamble",
            "the text does not end a line: the client's first request would continue it",
            "end it with \"\\r\\n\"; what needs no end of a line is given by \"preamble_base64\""},
        Bad{"empty", target_and(R"("preamble": "")"), t0 + ".preamble", "is empty",
            "leave it out, or shorten it"},
        Bad{"long", target_and("\"preamble\": \"" + std::string(507, 'x') + R"(\r\n")"),
            t0 + ".preamble", "has 509 bytes, more than the 508 that go into one segment",
            "leave it out, or shorten it"},
        Bad{"no_base64", target_and(R"("preamble_base64": "a")"), t0 + ".preamble_base64",
            "is no base64", "`base64 -w0 FILE` makes it of a file's bytes"},
        Bad{"relative", target_and(R"("preamble_file": "secret")"), t0 + ".preamble_file",
            "\"secret\" is no absolute path",
            "a service has another working directory than you: begin with /"},
        Bad{"twice", target_and(R"("preamble_base64": "QQ==", "preamble_file": "/x")"),
            t0 + ".preamble_file", "the target's preamble is given a second time",
            "keep one of \"preamble\", \"preamble_base64\" and \"preamble_file\""},
        Bad{"nobody_joins",
            R"({"mappings": [{"device": "e", "ports": 1, "join": "never", "targets": )"
            R"([{"address": "10.0.0.2", "port": 1, "preamble_base64": "QQ=="}]}]})",
            t0,
            "has a preamble, which is for connections that join, and no connection of this mapping "
            "does",
            "leave the preamble out, or \"join\": \"never\""}),
    testing::PrintToStringParamName());

INSTANTIATE_TEST_SUITE_P(
    Mapping, BadConfig,
    testing::Values(
        Bad{"name_type", mapping_with("name", "1"), m0 + ".name",
            "must be a string, not a whole number", ""},
        Bad{"name_empty", mapping_with("name", "\"\""), m0 + ".name", "\"\" cannot be a name",
            name_hint},
        Bad{"name_blank", mapping_with("name", "\"a b\""), m0 + ".name", "\"a b\" cannot be a name",
            name_hint},
        Bad{"device_long", mapping_with("device", "\"abcdefghijklmnop\""), m0 + ".device",
            "\"abcdefghijklmnop\" cannot be the name of a device", "`ip link` lists them"},
        Bad{"device_slash", mapping_with("device", "\"a/b\""), m0 + ".device",
            "\"a/b\" cannot be the name of a device", "`ip link` lists them"},
        Bad{"device_type", mapping_with("device", "null"), m0 + ".device",
            "must be a string or a list of strings, not null", ""},
        Bad{"direction", mapping_with("direction", "\"in\""), m0 + ".direction",
            "\"in\" is none of \"ingress\", \"egress\"", ""},
        Bad{"direction_near", mapping_with("direction", "\"ingres\""), m0 + ".direction",
            "\"ingres\" is none of \"ingress\", \"egress\"", "did you mean \"ingress\"?"},
        Bad{"direction_type", mapping_with("direction", "true"), m0 + ".direction",
            "must be a string, not true or false", ""},
        Bad{"protocol", mapping_with("protocol", "\"sctp\""), m0 + ".protocol",
            "\"sctp\" is none of \"tcp\", \"udp\"", ""},
        Bad{"udp_never_joins",
            R"({"mappings": [{"device": "e", "ports": 1, "protocol": "udp", "join": "never",
              "targets": [{"address": "10.0.0.2", "port": 1}]}]})",
            m0, R"("join": "never" is for connections, and UDP has none)", "leave \"join\" out"},
        Bad{"udp_converges",
            R"({"mappings": [{"device": "e", "ports": 1, "protocol": "udp", "converge": true,
              "application": "memcached", "targets": [{"address": "10.0.0.2", "port": 1}]}]})",
            m0, "\"converge\" reads requests of TCP, and the mapping is one of UDP",
            "leave \"converge\" out"},
        Bad{"udp_with_a_preamble",
            R"({"mappings": [{"device": "e", "ports": 1, "protocol": "udp",
              "targets": [{"address": "10.0.0.2", "port": 1, "preamble": "AUTH x\r\n"}]}]})",
            "f:2: mappings[0].targets[0]",
            "has a preamble, which is for connections, and UDP has none", "leave the preamble out"},
        Bad{"udp_timeout_none", with("udp_timeout", "\"0s\""), "f:1: udp_timeout",
            "\"0s\" is out of range", "give a time from \"1s\" to \"1d\""},
        Bad{"ports_zero", mapping_with("ports", "0"), m0 + ".ports", "\"0\" is out of range",
            "ports go from 1 to 65535"},
        Bad{"ports_high", mapping_with("ports", "\"1-65536\""), m0 + ".ports",
            "\"1-65536\" is out of range", "ports go from 1 to 65535"},
        Bad{"ports_negative", mapping_with("ports", "-1"), m0 + ".ports",
            "\"-1\" is not a port or a range of ports", port_hint},
        Bad{"ports_backwards", mapping_with("ports", "\"12-11\""), m0 + ".ports",
            "the range \"12-11\" ends before it starts", "write the lower port first"},
        Bad{"ports_text", mapping_with("ports", "\"all\""), m0 + ".ports",
            "\"all\" is not a port or a range of ports", port_hint},
        Bad{"ports_type", mapping_with("ports", "[1]"), m0 + ".ports",
            "must be a port or a range of ports, not an array", "write 11211 or \"11211-11212\""},
        Bad{"application", mapping_with("application", "\"rabbit\""), m0 + ".application",
            "\"rabbit\" is none of \"auto\", \"memcached\", \"redis\", \"any\"", ""},
        Bad{"join", mapping_with("join", "\"always\""), m0 + ".join",
            "\"always\" is none of \"boundary\", \"never\"", ""},
        Bad{"promiscuous", mapping_with("promiscuous", "\"yes\""), m0 + ".promiscuous",
            "must be true or false, not a string", ""},
        Bad{"bitrate_negative", mapping_with("max_bitrate", "-5"), m0 + ".max_bitrate",
            "-5 is out of range", "give a rate from \"0bit\" to \"1Tbit\""},
        Bad{"bitrate_large", mapping_with("max_bitrate", "\"2Tbit\""), m0 + ".max_bitrate",
            "\"2Tbit\" is out of range", "give a rate from \"0bit\" to \"1Tbit\""},
        Bad{"bitrate_unit", mapping_with("max_bitrate", "\"1MB\""), m0 + ".max_bitrate",
            "\"1MB\" is not a rate",
            "write bits per second, or a whole number with kbit, Mbit, Gbit or Tbit: "
            "\"100Mbit\""},
        Bad{"bitrate_fraction", mapping_with("max_bitrate", "1.5"), m0 + ".max_bitrate",
            "must be a rate, not a number with a fraction or out of range", "write \"1Tbit\""},
        Bad{"address_name", target_with("cache2"), t0 + ".address",
            "\"cache2\" is not an IP address", address_hint},
        Bad{"address_short", target_with("10.1"), t0 + ".address", "\"10.1\" is not an IP address",
            address_hint},
        Bad{"address_brackets", target_with("[2001:db8::1]"), t0 + ".address",
            "\"[2001:db8::1]\" stands in brackets",
            "the port has a key of its own: leave them out"},
        Bad{"address_v6_short", target_with("2001:db8:1"), t0 + ".address",
            "\"2001:db8:1\" is not an IP address", address_hint},
        Bad{"address_zone", target_with("fe80::1%eth0"), t0 + ".address",
            "\"fe80::1%eth0\" has a zone index: a target is reached by a route, not by a device",
            global_hint},
        Bad{"address_link_local", target_with("fe80::1"), t0 + ".address",
            "\"fe80::1\" is a link-local address, which any link may have", global_hint},
        Bad{"address_any_v6", target_with("::"), t0 + ".address",
            "\"::\" is not the address of a host", ""},
        Bad{"address_multicast_v6", target_with("ff02::1"), t0 + ".address",
            "\"ff02::1\" is not the address of a host", ""},
        Bad{"address_any", target_with("0.0.0.0"), t0 + ".address",
            "\"0.0.0.0\" is not the address of a host", ""},
        Bad{"address_multicast", target_with("224.0.0.1"), t0 + ".address",
            "\"224.0.0.1\" is not the address of a host", ""},
        Bad{"sample_number",
            mapping_with("targets", R"([{"address": "10.0.0.2", "port": 1, "sample": 0.1}])"),
            t0 + ".sample",
            "must be a share of the connections, not a number with a fraction or out of range",
            "write \"10%\" or \"0.1\""},
        Bad{"sample_small",
            mapping_with("targets", R"([{"address": "10.0.0.2", "port": 1, "sample": "0.001%"}])"),
            t0 + ".sample", "\"0.001%\" is no share of the connections",
            "write a share from \"0.01%\" to \"100%\", or a fraction as \"0.1\""},
        Bad{"copies_many",
            mapping_with("targets", R"([{"address": "10.0.0.2", "port": 1, "copies": 65}])"),
            t0 + ".copies", "65 is out of range", "give a number from 1 to 64"},
        Bad{"clients_type", mapping_with("exclude_clients", "\"10.0.0.0/8\""),
            m0 + ".exclude_clients", "must be an array, not a string", ""},
        Bad{"clients_name", mapping_with("exclude_clients", "[\"monitor\"]"),
            m0 + ".exclude_clients[0]", "\"monitor\" is neither an IP address nor a prefix",
            "write \"10.0.0.0/8\", \"2001:db8::/32\" or an address alone, in numbers; or the "
            "absolute path of a file with one a line"},
        Bad{"clients_none", mapping_with("include_clients", "[]"), m0 + ".include_clients",
            "the list is empty: no client would be mirrored", "leave it out to mirror all of them"},
        Bad{"clients_all", mapping_with("exclude_clients", R"(["::/0", "0.0.0.0/0"])"), m0,
            "\"exclude_clients\" has all clients: none would be mirrored",
            "remove 0.0.0.0/0 or ::/0, or say with \"include_clients\" who is"},
        Bad{"seed_large", mapping_with("seed", "4294967296"), m0 + ".seed",
            "4294967296 is out of range", "give a number from 0 to 4294967295"},
        Bad{"port_range", target_with("10.0.0.2", "65536"), t0 + ".port", "65536 is out of range",
            "give a number from 1 to 65535"},
        Bad{"port_type", target_with("10.0.0.2", "\"11211\""), t0 + ".port",
            "must be a whole number, not a string", ""}),
    testing::PrintToStringParamName());

INSTANTIATE_TEST_SUITE_P(
    Limits, BadConfig,
    testing::Values(
        Bad{"attach_mode", with("attach_mode", "\"xdp\""), "f:1: attach_mode",
            "\"xdp\" is none of \"auto\", \"tcx\", \"clsact\"", ""},
        Bad{"flows_few", with("flows", "1"), "f:1: flows", "1 is out of range",
            "give a number from 64 to 16777216"},
        Bad{"flows_huge", with("flows", "18446744073709551615"), "f:1: flows",
            "must be a whole number, not a number with a fraction or out of range", ""},
        Bad{"shadow_ports_low", with("shadow_ports", "\"80-90\""), "f:1: shadow_ports",
            "shadow ports must not be below 1024", "those belong to services"},
        Bad{"shadow_ports_high", with("shadow_ports", "\"60000-70000\""), "f:1: shadow_ports",
            "\"60000-70000\" is out of range", "ports go from 1 to 65535"},
        Bad{"store_unit", with("store", "\"64 MB\""), "f:1: store", "\"64 MB\" is not a size",
            size_hint},
        Bad{"store_overflow", with("store", "\"99999999999999999999GiB\""), "f:1: store",
            "\"99999999999999999999GiB\" is not a size", size_hint},
        Bad{"store_small", with("store", "\"4KiB\""), "f:1: store", "\"4KiB\" is out of range",
            store_range},
        Bad{"store_small_number", with("store", "4096"), "f:1: store", "4096 is out of range",
            store_range},
        Bad{"store_negative", with("store", "-1"), "f:1: store", "-1 is out of range", store_range},
        Bad{"store_large", with("store", "\"65GiB\""), "f:1: store", "\"65GiB\" is out of range",
            store_range},
        Bad{"store_type", with("store", "false"), "f:1: store", "must be a size, not true or false",
            "write \"64GiB\""},
        Bad{"flow_cap", with("flow_cap", "\"2GiB\""), "f:1: flow_cap", "\"2GiB\" is out of range",
            "give a size from \"0B\" to \"1GiB\""},
        Bad{"flow_cap_above_store", with("flow_cap", "\"4MiB\", \"store\": \"2MiB\""), "f",
            "\"flow_cap\" (4MiB) is larger than \"store\" (2MiB)",
            "one flow can never hold more than the store"},
        Bad{"store_below_shadows", with("store", "1048576, \"shadow_ports\": \"1024-65535\""), "f",
            "\"store\" (1048576 bytes) is too small for 64512 \"shadow_ports\"",
            "give at least 2064384 bytes, or fewer ports: one shadow in 64 must be able to hold "
            "something"},
        Bad{"rto_order", with("rto_max", "\"100ms\""), "f",
            "\"rto_min\" (200ms) is larger than \"rto_max\" (100ms)", rto_hint},
        Bad{"rto_order_former", with("rto_max_ms", "100"), "f",
            "\"rto_min\" (200ms) is larger than \"rto_max\" (100ms)", rto_hint},
        Bad{"rto_min", with("rto_min", "\"1ms\""), "f:1: rto_min", "\"1ms\" is out of range",
            "give a time from \"10ms\" to \"1min\""},
        Bad{"rto_min_former", with("rto_min_ms", "1"), "f:1: rto_min_ms", "1 is out of range",
            "give a number from 10 to 60000"},
        Bad{"rto_min_without_unit", with("rto_min", "500"), "f:1: rto_min",
            "must be a time, not a whole number", "say in which unit, as in \"500ms\""},
        Bad{"rto_min_negative", with("rto_min", "-5"), "f:1: rto_min",
            "must be a time, not a whole number", "write \"1min\""},
        Bad{"rto_min_unit", with("rto_min", "\"5 ms\""), "f:1: rto_min", "\"5 ms\" is not a time",
            time_hint},
        Bad{"rto_min_type", with("rto_min", "[]"), "f:1: rto_min", "must be a time, not an array",
            "write \"1min\""},
        Bad{"rto_min_former_with_unit", with("rto_min_ms", "\"500ms\""), "f:1: rto_min_ms",
            "must be a whole number, not a string",
            "a value with a unit goes with the key \"rto_min\""},
        Bad{"rto_min_twice", with("rto_min", "\"1s\", \"rto_min_ms\": 1000"), "f:1: rto_min_ms",
            "the key \"rto_min\" is given twice",
            "\"rto_min_ms\" is its former spelling: remove one of the two"},
        Bad{"rto_near", with("rto_min_m", "1"), "f:1: rto_min_m", "unknown key \"rto_min_m\"",
            "did you mean \"rto_min\"?"},
        Bad{"tries", with("tries", "0"), "f:1: tries", "0 is out of range",
            "give a number from 1 to 100"},
        Bad{"tries_text", with("tries", "\"8\""), "f:1: tries",
            "must be a whole number, not a string", ""},
        Bad{"syn_tries", with("syn_tries", "101"), "f:1: syn_tries", "101 is out of range",
            "give a number from 1 to 100"},
        Bad{"backoff", with("backoff", "\"0s\""), "f:1: backoff", "\"0s\" is out of range",
            "give a time from \"1ms\" to \"10min\""},
        Bad{"backoff_former", with("backoff_ms", "0"), "f:1: backoff_ms", "0 is out of range",
            "give a number from 1 to 600000"},
        Bad{"idle_fraction", with("idle_timeout", "\"2500ms\""), "f:1: idle_timeout",
            "\"2500ms\" is not a whole number of seconds",
            "fractions of a second make no difference here"},
        Bad{"idle_long", with("idle_timeout", "\"366d\""), "f:1: idle_timeout",
            "\"366d\" is out of range", "give a time from \"0s\" to \"365d\""},
        Bad{"idle_former", with("idle_timeout", "-1"), "f:1: idle_timeout", "-1 is out of range",
            "give a number from 0 to 31536000"}),
    testing::PrintToStringParamName());

INSTANTIATE_TEST_SUITE_P(
    Contradictions, BadConfig,
    testing::Values(
        Bad{"overlap", "{\"mappings\": [" + one_mapping + ",\n" + one_mapping + "]}",
            "f:2: mappings[1]", "ports 11211 overlap ports 11211 of f:1: mappings[0]",
            "a port of a device is captured once per direction, and once for each \"address\": "
            "give one mapping two targets "
            "instead"},
        Bad{"name_twice",
            R"({"mappings": [
{"name": "a", "device": "e0", "ports": 1, "targets": [{"address": "10.0.0.2", "port": 1}]},
{"name": "a", "device": "e1", "ports": 1, "targets": [{"address": "10.0.0.2", "port": 1}]}]})",
            "f:3: mappings[1]", "the name \"a\" is taken by f:2: mappings[0]",
            "each mapping needs a name of its own"},
        Bad{"past_last_port",
            R"({"mappings": [{"device": "e", "ports": "1-3",
"targets": [{"address": "10.0.0.2", "port": 65534}]}]})",
            "f:2: mappings[0].targets[0]",
            "the mapping's 3 ports run past port 65535 on the target",
            "they map onto the target's ports from 65534 upward: the last would be 65536"},
        Bad{"target_twice", mapping_with("targets", R"([{"address": "10.0.0.2", "port": 1},
{"address": "10.0.0.2", "port": 1}])"),
            "f:2: mappings[0].targets[1]", "the target 10.0.0.2:1 is given twice",
            "remove one of the two: a target gets one copy"},
        Bad{"too_many_targets", mapping_with("targets", R"([{"address": "10.0.0.2", "port": 1},
{"address": "10.0.0.2", "port": 2}, {"address": "10.0.0.2", "port": 3},
{"address": "10.0.0.2", "port": 4}, {"address": "10.0.0.2", "port": 5},
{"address": "10.0.0.2", "port": 6}, {"address": "10.0.0.2", "port": 7},
{"address": "10.0.0.2", "port": 8}, {"address": "10.0.0.2", "port": 9}])"),
            m0, "9 targets are more than the 8 that a mapping can have", "remove some"},
        Bad{"converge_a_sample",
            R"({"mappings": [{"device": "e", "ports": 1, "application": "memcached", "converge": true,
"targets": [{"address": "10.0.0.2", "port": 1, "sample": "50%"}]}]})",
            "f:2: mappings[0].targets[0]",
            "the target gets 50% of the connections, and \"converge\" makes it equal to the source",
            "leave \"sample\" and \"copies\" out, or \"converge\""},
        Bad{"converge_a_dry_run",
            R"({"mappings": [{"device": "e", "ports": 1, "application": "memcached", "converge": true,
"dry_run": true, "targets": [{"address": "10.0.0.2", "port": 1}]}]})",
            "f:1: mappings[0]",
            "\"converge\" writes to the targets, and \"dry_run\" sends them nothing",
            "leave one of the two out"},
        Bad{"converge_of_what", mapping_with("converge", "true"), m0,
            "\"converge\" reads requests of memcached, and the application is another",
            "say \"application\": \"memcached\", or leave \"converge\" out"}),
    testing::PrintToStringParamName());

INSTANTIATE_TEST_SUITE_P(
    NotJson, BadConfig,
    testing::Values(
        Bad{"empty", "", "f:1:1",
            "not JSON: syntax error while parsing value - unexpected end of input; expected '[', "
            "'{', or a literal",
            comma_hint},
        Bad{"comma", "{\n  \"a\": 1,\n}", "f:3:1",
            "not JSON: syntax error while parsing object key - unexpected '}'; expected string "
            "literal",
            comma_hint}),
    testing::PrintToStringParamName());

TEST(Config, AllErrorsOfAFileAtOnce) {
  const auto c = parse_config(R"({
  "store": true,
  "mappings": [
    {"name": "a", "device": "eth0", "ports": "0", "targets": []},
    {"name": "a", "device": "eth0", "targets": [{"address": "x", "prt": 1}]}
  ],
  "flowz": 1
})",
                              "d.json");
  ASSERT_FALSE(c);
  std::vector<std::string> places;
  for (const Error &e : c.errors())
    places.push_back(e.where);
  EXPECT_EQ(places, (std::vector<std::string>{
                        "d.json:2: store", "d.json:4: mappings[0].ports",
                        "d.json:4: mappings[0].targets", "d.json:5: mappings[1].targets[0].address",
                        "d.json:5: mappings[1].targets[0].prt", "d.json:5: mappings[1].targets[0]",
                        "d.json:5: mappings[1]", "d.json:7: flowz", "d.json:5: mappings[1]"}));
}

TEST(Config, TooManyMappings) {
  std::string text = "{\"mappings\": [";
  for (int i = 0; i <= DP_MAX_MAPPINGS; i++)
    text += (i ? "," : "") + std::string(R"({"device": "e", "ports": )") + std::to_string(i + 1) +
            R"(, "targets": [{"address": "10.0.0.2", "port": 1}]})";
  const auto c = parse_config(text + "]}", "f");
  ASSERT_FALSE(c);
  ASSERT_EQ(c.errors().size(), 1u);
  EXPECT_EQ(c.errors()[0].what, "1025 mappings are more than the 1024 that fit");
  EXPECT_EQ(c.errors()[0].hint, "join neighbouring ports into ranges");
}

TEST(Config, MorePortsThanFit) {
  const auto c = parse_config(R"({"mappings": [
    {"name": "a", "device": "eth0", "ports": "1-40000",
     "targets": [{"address": "10.0.0.2", "port": 1}]},
    {"name": "b", "device": "eth1", "ports": "1-40000",
     "targets": [{"address": "10.0.0.2", "port": 1}]}]})",
                              "x");
  ASSERT_FALSE(c);
  ASSERT_EQ(c.errors().size(), 1u) << show_errors(c.errors());
  EXPECT_EQ(c.errors()[0].what,
            "80000 ports of all mappings together are more than the 65536 that fit");
}

TEST(Config, SamePortElsewhereIsNoOverlap) {
  for (const char *other : {R"("device": "eth1")", R"("device": "eth0", "direction": "egress")"}) {
    const std::string second = R"({"name": "b", "ports": 11211, )" + std::string(other) +
                               R"(, "targets": [{"address": "10.0.0.2", "port": 1}]})";
    const auto c = parse_config("{\"mappings\": [" + one_mapping + "," + second + "]}", "f");
    EXPECT_TRUE(c) << show_errors(c.errors());
  }
}

constexpr char listing[] = R"({"mappings": [{"device": "e", "ports": 1,
"include_clients": ["10.0.0.0/8", "/lists/a"], "exclude_clients": ["/lists/b", "2001:db8::/32"],
"targets": [{"address": "10.0.0.2", "port": 1}]}]})";

TEST(Config, ClientsAreReadFromFilesAsWell) {
  const auto c = parse_config(listing, "f", [](const std::string &file) -> Result<std::string> {
    return std::string(file == "/lists/a" ? "192.168.0.0/16\n" : "10.1.0.0/16 # monitoring\n");
  });
  ASSERT_TRUE(c) << show_errors(c.errors());
  const ClientList &list = *c->mappings[0].clients;
  EXPECT_EQ(list.id().include, 2u);
  EXPECT_EQ(list.id().exclude, 2u);
  std::string text;
  for (const ClientList::Entry &e : list.entries())
    text += (e.include ? "+" : "-") + e.prefix.text() + " ";
  EXPECT_EQ(text, "+10.0.0.0/8 -10.1.0.0/16 +192.168.0.0/16 -2001:db8::/32 ");
  EXPECT_EQ(parse_config("{\"mappings\": [" + one_mapping + "]}", "f")->mappings[0].clients,
            nullptr);
}

TEST(Config, ErrorsOfFilesOfClientsAreToldWithAllOthers) {
  const auto c = parse_config(listing, "f", [](const std::string &file) -> Result<std::string> {
    if (file == "/lists/a")
      return Error{file, "cannot be opened: No such file or directory", "hint"};
    return std::string("10.0.0.0/8\n\n10.0.0.1/8\nhost.example\n");
  });
  ASSERT_FALSE(c);
  EXPECT_EQ(
      show_errors(c.errors()),
      show_errors({{"f:2: mappings[0].include_clients[1]",
                    "\"/lists/a\" cannot be opened: No such file or directory", "hint"},
                   {"/lists/b:3", "\"10.0.0.1/8\" has bits behind its length",
                    "write \"10.0.0.0/8\", or the address without a length"},
                   {"/lists/b:4", "\"host.example\" is neither an IP address nor a prefix",
                    "write \"10.0.0.0/8\", \"2001:db8::/32\" or an address alone, in numbers"},
                   {"/lists/b:1",
                    "10.0.0.0/8 is in \"include_clients\" as well, at f:2: "
                    "mappings[0].include_clients[0]",
                    "remove one of the two: of prefixes of one length none goes before the "
                    "other"}}));
}

TEST(Config, AnIncludedFileWithoutPrefixesIsAnEmptyList) {
  const auto c =
      parse_config(R"({"mappings": [{"device": "e", "ports": 1,
"include_clients": ["/lists/a"], "targets": [{"address": "10.0.0.2", "port": 1}]}]})",
                   "f", [](const std::string &) { return std::string("# nobody yet\n"); });
  ASSERT_FALSE(c);
  EXPECT_EQ(c.errors()[0].where, "f:2: mappings[0].include_clients");
  EXPECT_EQ(c.errors()[0].what, "the list is empty: no client would be mirrored");
}

struct BadFile {
  const char *path, *what, *hint;
};

TEST(Config, FilesThatCannotBeRead) {
  const BadFile files[] = {
      {"/nonexistent/doppel.json", "cannot be opened: No such file or directory",
       "check the path given with --config"},
      {"/", "is a directory", "--config takes the path of a file"},
      {"/dev/zero", "is larger than 8 MiB", "this is no configuration of doppel"},
      {"/proc/self/mem", "cannot be read: Input/output error", ""},
  };
  for (const BadFile &f : files) {
    const auto c = read_config(f.path);
    ASSERT_FALSE(c) << f.path;
    ASSERT_EQ(c.errors().size(), 1u);
    EXPECT_EQ(c.errors()[0].where, f.path);
    EXPECT_EQ(c.errors()[0].what, f.what);
    EXPECT_EQ(c.errors()[0].hint, f.hint);
    EXPECT_EQ(c.errors()[0].exit, Exit::usage);
  }
}

TEST(Config, AttachModeOption) {
  EXPECT_EQ(*parse_attach_mode("tcx"), AttachMode::tcx);
  EXPECT_EQ(*parse_attach_mode("auto"), AttachMode::automatic);
  const auto bad = parse_attach_mode("xdp");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.errors()[0].what, "\"xdp\" is none of \"auto\", \"tcx\", \"clsact\"");
}

} // namespace
} // namespace doppel
