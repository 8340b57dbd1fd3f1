// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/topology.h"

#include <gtest/gtest.h>

#include "tests/unit/a_host.h"

namespace doppel {
namespace {
using Sentences = std::vector<std::string>;

DeviceView upper(uint32_t ifindex, const char *name, const char *kind, uint32_t lower,
                 std::vector<Address> addresses = {}) {
  DeviceView d = a_device(ifindex, name, std::move(addresses));
  d.kind = kind;
  d.lower = lower;
  return d;
}

DeviceView &device(HostView &h, const char *name) {
  for (DeviceView &d : h.devices)
    if (d.name == name)
      return d;
  ADD_FAILURE() << "no device " << name;
  return h.devices.front();
}

// eth0 is a port of br0, which has the addresses.
HostView bridged(bool same_mac) {
  HostView h = a_host();
  DeviceView br = a_device(9, "br0", {ip("10.0.0.1")});
  br.kind = "bridge";
  br.mac = same_mac ? "aaaaaa" : "bbbbbb";
  h.devices.push_back(br);
  DeviceView &eth0 = device(h, "eth0");
  eth0.addresses.clear();
  eth0.mac = "aaaaaa";
  eth0.master = 9;
  return h;
}

void listen_anywhere(HostView &h) { h.listeners.push_back({{}, 11211, 0}); }

TEST(BlindSpots, NothingStandsAgainstAPlainHost) {
  HostView h = a_host();
  EXPECT_EQ(blind_spots(a_config(), h), Sentences{});
  listen_anywhere(h);
  EXPECT_EQ(blind_spots(a_config(), h), Sentences{});
  h.connections = {{false, 11211, 2, 16}, {false, 11211, 3, 16}};
  EXPECT_EQ(blind_spots(a_config(), h), Sentences{}) << "some come by eth0";
}

TEST(BlindSpots, APortOfABridge) {
  EXPECT_EQ(blind_spots(a_config(), bridged(false)),
            Sentences{"device eth0 is a port of bridge br0, which has another MAC: what comes for "
                      "this host is not seen on eth0; capture on br0"});
  EXPECT_EQ(blind_spots(a_config(), bridged(true)),
            Sentences{"device eth0 is a port of bridge br0: what comes for this host is seen on "
                      "eth0 only as long as br0 has its MAC, and never if it comes by another "
                      "port; capture on br0"});
  Config c = a_config();
  c.mappings[0].any_host = true;
  EXPECT_EQ(blind_spots(c, bridged(false)), Sentences{}) << "it looks through the bridge";
  c = a_config();
  c.mappings[0].devices = {"br0"};
  EXPECT_EQ(blind_spots(c, bridged(false)), Sentences{});
}

TEST(BlindSpots, APortOfABond) {
  HostView h = a_host();
  DeviceView bond = a_device(9, "bond0", {ip("10.0.0.1")});
  bond.kind = "bond";
  h.devices.push_back(bond);
  device(h, "eth0").master = 9;
  EXPECT_EQ(blind_spots(a_config(), h),
            Sentences{"device eth0 is a port of bond bond0: requests may come by its other ports; "
                      "capture on bond0"});
}

TEST(BlindSpots, ABridgeOfContainersInTheWrongDirection) {
  HostView h = a_host();
  DeviceView docker = a_device(9, "docker0", {ip("172.17.0.1")});
  docker.kind = "bridge";
  DeviceView veth = upper(10, "veth7", "veth", 0);
  veth.elsewhere = true;
  veth.master = 9;
  h.devices.push_back(docker);
  h.devices.push_back(veth);
  Config c = a_config();
  c.mappings[0].devices = {"docker0"};
  const auto found = blind_spots(c, h);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].find("capture with direction egress"), std::string::npos) << found[0];
  c.mappings[0].direction = DP_DIR_EGRESS;
  EXPECT_EQ(blind_spots(c, h), Sentences{});
  c.mappings[0].devices = {"veth7"};
  EXPECT_EQ(blind_spots(c, h), Sentences{});
  c.mappings[0].direction = DP_DIR_INGRESS;
  const auto veth_found = blind_spots(c, h);
  ASSERT_EQ(veth_found.size(), 1u);
  EXPECT_NE(veth_found[0].find("on veth7 with direction egress"), std::string::npos);
  listen_anywhere(h);
  c.mappings[0].devices = {"docker0"};
  EXPECT_EQ(blind_spots(c, h), Sentences{}) << "containers may ask a service of this host";
}

TEST(BlindSpots, DevicesThatStandOnTheOne) {
  for (const char *kind : {"vlan", "macvlan", "macvtap", "vxlan"}) {
    HostView h = a_host();
    h.devices.push_back(upper(9, "up0", kind, 2, {ip("10.78.0.1")}));
    EXPECT_EQ(blind_spots(a_config(), h), Sentences{}) << "nobody listens: " << kind;
    listen_anywhere(h);
    auto found = blind_spots(a_config(), h);
    ASSERT_EQ(found.size(), 1u) << kind;
    EXPECT_NE(found[0].find("up0 (10.78.0.1) is a"), std::string::npos) << found[0];
    EXPECT_NE(found[0].find("device of eth0, where what comes by it is not seen; capture on up0"),
              std::string::npos)
        << found[0];
    h.connections = {{false, 11211, 2, 1}};
    EXPECT_EQ(blind_spots(a_config(), h), Sentences{}) << "clients use eth0 itself: " << kind;
    h.connections = {};
    h.listeners = {{ip("10.0.0.1"), 11211, 0}};
    EXPECT_EQ(blind_spots(a_config(), h), Sentences{}) << "only on eth0's address: " << kind;
  }
}

// Each listener takes the families that it is for.
TEST(BlindSpots, ADeviceOfAnotherFamilyThanTheServiceIsNoWayToIt) {
  HostView h = a_host();
  h.devices.push_back(upper(9, "up0", "vlan", 2, {ip("2001:db8:78::1")}));
  Listener l{{}, 11211, 0};
  l.v6 = false;
  h.listeners = {l};
  EXPECT_EQ(blind_spots(a_config(), h), Sentences{}) << "0.0.0.0";
  h.listeners[0].v6 = true;
  const auto found = blind_spots(a_config(), h);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].find("up0 (2001:db8:78::1) is a VLAN device of eth0"), std::string::npos)
      << found[0];
}

TEST(BlindSpots, AServiceOnTheLoopbackAddressOfEitherFamily) {
  for (const char *loopback : {"127.0.0.1", "::1"}) {
    HostView h = a_host();
    h.listeners = {{ip(loopback), 11211, 0}};
    const auto found = blind_spots(a_config(), h);
    ASSERT_EQ(found.size(), 1u) << loopback;
    EXPECT_NE(found[0].find("capture on lo"), std::string::npos);
  }
}

TEST(BlindSpots, AMirrorPortInATunnel) {
  HostView h = a_host();
  h.devices.push_back(upper(9, "vxlan0", "vxlan", 2));
  Config c = a_config();
  c.mappings[0].any_host = true;
  const auto found = blind_spots(c, h);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].find("capture on vxlan0"), std::string::npos) << found[0];
  c.mappings[0].devices = {"vxlan0"};
  EXPECT_EQ(blind_spots(c, h), Sentences{});
}

TEST(BlindSpots, ATunnelStandsOnTheDeviceThatHasItsAddress) {
  for (const auto &[kind, own] : {std::pair{"gretap", "10.0.0.1"}, {"ip6gretap", "2001:db8::1"}}) {
    HostView h = a_host();
    h.devices[1].addresses.push_back(ip("2001:db8::1"));
    h.devices.push_back(upper(9, "gre1", kind, 0));
    h.devices.back().tunnel = ip(own);
    Config c = a_config();
    c.mappings[0].any_host = true;
    const auto found = blind_spots(c, h);
    ASSERT_EQ(found.size(), 1u) << kind;
    EXPECT_NE(found[0].find("gre1 is a GRE device of eth0"), std::string::npos) << found[0];
    h.devices.back().tunnel = ip("2001:db8::7");
    EXPECT_EQ(blind_spots(c, h), Sentences{}) << "another's";
  }
}

TEST(BlindSpots, AServiceOnTheAddressOfAnotherDevice) {
  HostView h = a_host();
  h.listeners = {{ip("10.9.0.1"), 11211, 0}};
  EXPECT_EQ(
      blind_spots(a_config(), h),
      Sentences{"port 11211 listens on 10.9.0.1 alone, which is reached by eth1, not by eth0; "
                "capture on eth1"});
  h.listeners.push_back({ip("10.0.0.1"), 11211, 0});
  EXPECT_EQ(blind_spots(a_config(), h), Sentences{});
  h.listeners = {{ip("127.0.0.1"), 11211, 0}};
  const auto found = blind_spots(a_config(), h);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].find("capture on lo"), std::string::npos);
  h.listeners = {{ip("10.50.0.1"), 11211, 0}};
  EXPECT_EQ(blind_spots(a_config(), h), Sentences{}) << "an address that is routed here";
}

TEST(BlindSpots, ConnectionsThatComeByAnotherDevice) {
  HostView h = a_host();
  listen_anywhere(h);
  h.connections = {{false, 11211, 3, 16}};
  EXPECT_EQ(blind_spots(a_config(), h),
            Sentences{"port 11211 has 16 connections, by eth1, and none by eth0; capture on eth1"});
  h.connections = {{false, 80, 3, 16}};
  EXPECT_EQ(blind_spots(a_config(), h), Sentences{}) << "of another port";
}

TEST(BlindSpots, EgressOnAServer) {
  HostView h = a_host();
  Config c = a_config();
  c.mappings[0].direction = DP_DIR_EGRESS;
  EXPECT_EQ(blind_spots(c, h), Sentences{});
  listen_anywhere(h);
  EXPECT_EQ(blind_spots(c, h).size(), 1u);
  h.connections = {{true, 11211, 2, 1}};
  EXPECT_EQ(blind_spots(c, h), Sentences{}) << "it asks others as well";
}

} // namespace
} // namespace doppel
