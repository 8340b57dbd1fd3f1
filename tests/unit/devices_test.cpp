// SPDX-License-Identifier: Apache-2.0
// The devices of a mapping: names, patterns, and which of a host's they stand for; and mappings of
// one port each.
#include <gtest/gtest.h>

#include "doppel/names.h"
#include "tests/unit/a_host.h"
#include "userspace/plan/change.h"
#include "userspace/plan/named_devices.h"
#include "userspace/plan/partial_plan.h"
#include "userspace/plan/topology.h"

namespace doppel {
namespace {
using Strings = std::vector<std::string>;

std::string with_device(const std::string &value, const std::string &more = "") {
  return R"({ "mappings": [ { "name": "data", "device": )" + value +
         R"(, "ports": "11211-11213", )" + more +
         R"("targets": [ { "address": "10.0.0.2", "port": 21211 } ] } ] })";
}

Strings whats(const Errors &errors) {
  Strings all;
  for (const Error &e : errors)
    all.push_back(e.what);
  return all;
}

Config of_devices(const Strings &devices) {
  Config c = a_config();
  c.mappings[0].devices = devices;
  return c;
}

TEST(Devices, AFileNamesOneOrSeveral) {
  EXPECT_EQ(parse_config(with_device("\"eth0\""), "d")->mappings[0].devices, Strings{"eth0"});
  EXPECT_EQ(parse_config(with_device(R"(["eth0", "vlan[0-9]*", "lo"])"), "d")->mappings[0].devices,
            (Strings{"eth0", "vlan[0-9]*", "lo"}));
  EXPECT_EQ(config_from_options("eth0,br*", {"1-10.0.0.2:1"})->mappings[0].devices,
            (Strings{"eth0", "br*"}));
}

TEST(Devices, AllThatIsWrongWithTheListIsTold) {
  const auto c = parse_config(with_device(R"(["eth0", "a/b", 7, "eth0", ""])"), "d");
  ASSERT_FALSE(c);
  EXPECT_EQ(
      whats(c.errors()),
      (Strings{"\"a/b\" cannot be the name of a device", "must be a string, not a whole number",
               "\"eth0\" is named twice", "\"\" cannot be the name of a device"}));
  EXPECT_EQ(whats(parse_config(with_device("[]"), "d").errors()),
            Strings{"the list of devices is empty"});
  EXPECT_EQ(whats(config_from_options("eth0,,eth1", {"1-10.0.0.2:1"}).errors()),
            Strings{"\"\" cannot be the name of a device"});
}

TEST(Devices, PatternsStandForEthernetDevicesThatFit) {
  HostView h = a_host();
  h.devices.push_back(a_device(9, "doppel0"));
  h.devices.push_back(a_device(10, "wg0"));
  h.devices.back().ethernet = false;
  const auto named = [&](const Strings &list) {
    Errors errors;
    const Config c = named_devices(of_devices(list), h, errors);
    EXPECT_EQ(whats(errors), Strings{});
    return c.mappings[0].devices;
  };
  EXPECT_EQ(named({"eth*"}), (Strings{"eth0", "eth1"}));
  EXPECT_EQ(named({"*"}), (Strings{"eth0", "eth1"}));
  EXPECT_EQ(named({"lo", "eth1", "eth?"}), (Strings{"lo", "eth1", "eth0"}));
  EXPECT_EQ(named({"gone", "wg0"}), (Strings{"gone", "wg0"})) << "others tell of them";
  EXPECT_EQ(named({"en*", "eth1"}), Strings{"eth1"}) << "a pattern stands for what there is";
  Errors errors;
  named_devices(of_devices({"en*", "l?"}), h, errors);
  EXPECT_EQ(whats(errors), (Strings{"no Ethernet device of this host fits \"en*\"",
                                    "no Ethernet device of this host fits \"l?\""}));
}

TEST(Devices, AMappingGoesOnWithoutOneThatIsMissing) {
  const auto p = make_partial_plan(of_devices({"eth0", "gone0", "en*"}), a_host());
  ASSERT_TRUE(p) << show_errors(p.errors());
  ASSERT_EQ(p->plan.names.size(), 1U);
  EXPECT_EQ(p->plan.names[0].devices, Strings{"eth0"});
  EXPECT_TRUE(p->deferred.empty());
  EXPECT_EQ(whats(p->why),
            Strings{"there is no device \"gone0\": mapping 11211 is captured on its others"});
  const auto none = make_partial_plan(of_devices({"gone0", "en*"}), a_host());
  ASSERT_TRUE(none);
  EXPECT_TRUE(none->plan.names.empty());
  EXPECT_EQ(none->deferred, std::set<std::string>{"11211"});
  EXPECT_FALSE(make_plan(of_devices({"eth0", "gone0"}), a_host()))
      << "attach wants all that is named";
}

// The configuration is good as long as no device fits both.
TEST(Devices, OneThatFitsThePatternsOfTwoMappingsIsTheFirstOnes) {
  Config c = a_config({"11211-10.0.0.2:21211", "11311-10.0.0.3:11311", "12-10.0.0.3:11211"});
  c.mappings[0].devices = {"eth*"};
  c.mappings[2].name = "late";
  c.mappings[2].port_first = c.mappings[2].port_last = 11211;
  c.mappings[2].devices = {"*1"};
  HostView h = a_host();
  h.devices.erase(h.devices.begin() + 2);
  h.devices.push_back(a_device(9, "veth1"));
  const auto before = make_partial_plan(c, h);
  ASSERT_TRUE(before) << show_errors(before.errors());
  EXPECT_TRUE(before->deferred.empty());
  h.devices.push_back(a_device(10, "eth1"));
  const auto p = make_partial_plan(c, h);
  ASSERT_TRUE(p) << show_errors(p.errors());
  EXPECT_EQ(p->deferred, std::set<std::string>{"late"});
  EXPECT_EQ(p->plan.names.size(), 2U);
  EXPECT_EQ(p->plan.names[0].devices, (Strings{"eth0", "eth1"}));
  ASSERT_EQ(p->why.size(), 1U);
  EXPECT_NE(p->why[0].what.find("overlap"), std::string::npos) << p->why[0].what;
}

TEST(Devices, EachHasItsHooksAndItsPorts) {
  const auto p = make_plan(of_devices({"eth*"}), a_host());
  ASSERT_TRUE(p) << show_errors(p.errors());
  ASSERT_EQ(p->mappings.size(), 1U);
  EXPECT_EQ(p->names[0].devices, (Strings{"eth0", "eth1"}));
  EXPECT_EQ(p->names[0].device_list(), "eth0, eth1");
  ASSERT_EQ(p->ports.size(), 2U);
  EXPECT_EQ(p->ports[0].key.port.ifindex, 2U);
  EXPECT_EQ(p->ports[1].key.port.ifindex, 3U);
  EXPECT_EQ(p->ports[0].val.mapping, p->ports[1].val.mapping);
  int captures = 0;
  for (const Attachment &a : p->attachments)
    captures += a.program == DP_PROG_INGRESS;
  EXPECT_EQ(captures, 2);
}

TEST(Devices, MappingsThatShareOneContradictEachOther) {
  Config c = a_config({"1-10.0.0.2:1"});
  c.mappings.push_back(c.mappings[0]);
  c.mappings[0].devices = {"eth0", "eth1"};
  c.mappings[1].devices = {"eth2"};
  c.mappings[1].name = "other";
  EXPECT_EQ(whats(contradictions(c)), Strings{});
  c.mappings[1].devices = {"eth2", "eth1"};
  EXPECT_EQ(contradictions(c).size(), 1U);
  c.mappings[1].devices = {"eth[1-9]"};
  EXPECT_EQ(contradictions(c).size(), 1U);
  c.mappings[1].devices = {"eth[2-9]"};
  EXPECT_EQ(contradictions(c).size(), 0U);
}

TEST(Devices, OneAboveAnotherIsRefused) {
  HostView h = a_host();
  DeviceView bond = a_device(9, "bond0");
  bond.kind = "bond";
  h.devices[1].master = 9;
  h.devices[1].mac = bond.mac = "aaaaaa";
  h.devices.push_back(bond);
  const auto p = make_plan(of_devices({"eth0", "bond0"}), h);
  ASSERT_FALSE(p);
  EXPECT_EQ(p.errors()[0].what,
            "mapping \"11211\" captures the same requests on eth0 and on bond0: "
            "eth0 is a port of bond bond0");
  EXPECT_EQ(p.errors()[0].hint, "capture on bond0 alone");
  EXPECT_TRUE(make_plan(of_devices({"bond0", "eth1"}), h));
}

TEST(Devices, ConnectionsByANamedDeviceAreSeen) {
  HostView h = a_host();
  h.connections = {{false, 11211, 3, 5}};
  EXPECT_EQ(blind_spots(of_devices({"eth0"}), h).size(), 1U);
  EXPECT_EQ(blind_spots(of_devices({"eth0", "eth1"}), h), Strings{});
}

TEST(Devices, AReloadKeepsTheMapping) {
  const auto was = make_plan(of_devices({"eth0"}), a_host());
  const auto is = make_plan(of_devices({"eth0", "eth1"}), a_host());
  ASSERT_TRUE(was && is);
  MirrorState state;
  state.limits = was->limits;
  state.mode = was->mode;
  state.mappings = {{was->names[0], was->mappings[0], was->preambles[0]}};
  state.pools.resize(1);
  state.ports = was->ports;
  state.programs = state.running = was->attachments;
  const auto c = plan_change(state, *is);
  ASSERT_TRUE(c) << show_errors(c.errors());
  EXPECT_TRUE(c->new_rows.empty());
  EXPECT_TRUE(c->old_rows.empty());
  EXPECT_EQ(c->updated, Strings{"mapping 11211: it is captured on eth0, eth1"});
  ASSERT_EQ(c->ports.size(), 1U);
  EXPECT_EQ(c->ports[0].key.port.ifindex, 3U);
  EXPECT_EQ(c->attach.size(), 1U);
  EXPECT_TRUE(c->old_ports.empty());
  EXPECT_FALSE(c->empty());
}

TEST(ByPort, EachPortIsAMapping) {
  const auto c = parse_config(with_device("\"eth0\"", "\"by_port\": true, "), "d");
  ASSERT_TRUE(c) << show_errors(c.errors());
  ASSERT_EQ(c->mappings.size(), 3U);
  for (uint16_t i = 0; i < 3; i++) {
    const MappingConfig &m = c->mappings[i];
    EXPECT_EQ(m.name, "data." + std::to_string(11211 + i));
    EXPECT_EQ(m.port_first, 11211 + i);
    EXPECT_EQ(m.port_last, 11211 + i);
    EXPECT_EQ(m.targets[0].port, 21211 + i);
    EXPECT_FALSE(m.by_port);
  }
  EXPECT_EQ(parse_config(with_device("\"eth0\"", "\"by_port\": false, "), "d")->mappings.size(),
            1U);
}

TEST(ByPort, MoreThanThereIsRoomForIsRefused) {
  const auto c = parse_config(
      R"({ "mappings": [ { "device": "eth0", "ports": "1000-2024", "by_port": true,
           "targets": [ { "address": "10.0.0.2", "port": 1 } ] } ] })",
      "d");
  ASSERT_FALSE(c);
  EXPECT_EQ(whats(c.errors()), Strings{"1025 mappings are more than the 1024 that fit"});
}

TEST(SharedPayload, TheStoreHasARowForEachShadowOfAConnection) {
  Config c = a_config();
  EXPECT_EQ(store_rows(c, 100), 100U);
  c.mappings[0].targets[0].portion.copies = 3;
  EXPECT_EQ(store_rows(c, 100), 300U);
  c.mappings[0].targets.push_back(c.mappings[0].targets[0]);
  c.mappings[0].targets[1].portion.copies = 64;
  EXPECT_EQ(store_rows(c, 100), 800U);
}

} // namespace
} // namespace doppel
