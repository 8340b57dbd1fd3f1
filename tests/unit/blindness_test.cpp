// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/blindness.h"

#include <gtest/gtest.h>

#include "tests/unit/a_host.h"

namespace doppel {
namespace {
using Sentences = std::vector<std::string>;

constexpr uint32_t kEth0 = 2, kEth1 = 3, kBr0 = 9;

MappingView a_view() {
  MappingView s;
  s.mapping = "data";
  s.devices = {"eth0"};
  s.ifindexes = {kEth0};
  s.ports = {11211, 11211};
  return s;
}

AskedConnection asked(uint32_t ifindex, bool seen) {
  AskedConnection c;
  c.ifindex = ifindex;
  c.seen = seen;
  return c;
}

TEST(Blindness, IdleAndSeenServicesAreWell) {
  MappingView s = a_view();
  EXPECT_EQ(blindness({s}, a_host()), Sentences{});
  s.asked = {asked(kEth0, true), asked(kEth0, true)};
  EXPECT_EQ(blindness({s}, a_host()), Sentences{});
}

TEST(Blindness, WhatGoesToAnAddressIsTheMappingsThatHasIt) {
  const Address one = ip("10.0.0.1"), other = ip("10.0.0.9");
  MappingView s = a_view();
  EXPECT_TRUE(s.takes(one) && s.takes(other));
  EXPECT_EQ(s.service(), "11211");
  s.others = {one};
  EXPECT_TRUE(!s.takes(one) && s.takes(other));
  s.address = other;
  EXPECT_TRUE(!s.takes(one) && s.takes(other));
  EXPECT_EQ(s.service(), "10.0.0.9:11211");
  // What comes by another device is seen there only by a mapping that takes it.
  s.asked = {asked(kEth0, true), asked(kEth1, false)};
  MappingView there = a_view();
  there.devices = {"eth1"};
  there.ifindexes = {kEth1};
  there.address = one;
  EXPECT_EQ(blindness({s, there}, a_host()).size(), 1u);
  there.address = other;
  EXPECT_EQ(blindness({s, there}, a_host()).size(), 0u);
}

TEST(Blindness, NothingIsSeenOfWhatComesByABridge) {
  HostView h = a_host();
  DeviceView br = a_device(kBr0, "br0");
  br.kind = "bridge";
  h.devices.push_back(br);
  h.devices[1].master = kBr0;
  MappingView s = a_view();
  s.asked.assign(16, asked(kBr0, false));
  EXPECT_EQ(
      blindness({s}, h),
      Sentences{"mapping data: no request seen for 30 s on eth0, but the socket of port 11211 "
                "has 16 connections, by br0: eth0 is a port of bridge br0; capture on br0"});
}

TEST(Blindness, OfTheDeviceItselfAnotherProgramIsTheCause) {
  MappingView s = a_view();
  s.asked = {asked(kEth0, false)};
  const auto found = blindness({s}, a_host());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].find("1 connection, by eth0 itself; another program on its hook"),
            std::string::npos)
      << found[0];
}

// The service hangs, its clients have given up, and its sockets are all that is left of them.
TEST(Blindness, WhatWasHeardLatelyIsNotUnseen) {
  MappingView s = a_view();
  s.asked = {asked(kEth0, false)};
  s.heard = true;
  EXPECT_EQ(blindness({s}, a_host()), Sentences{});
  s.asked.push_back(asked(kEth1, false));
  EXPECT_EQ(
      blindness({s}, a_host()),
      Sentences{"mapping data: 1 of 2 connections of port 11211 are not seen on eth0: they come "
                "by eth1; capture on eth1 as well"});
}

TEST(Blindness, SomeComeByASecondDevice) {
  MappingView s = a_view();
  s.asked = {asked(kEth0, true), asked(kEth1, false), asked(kEth1, false)};
  EXPECT_EQ(
      blindness({s}, a_host()),
      Sentences{"mapping data: 2 of 3 connections of port 11211 are not seen on eth0: they come "
                "by eth1; capture on eth1 as well"});
  MappingView other = a_view();
  other.mapping = "more";
  other.devices = {"eth1"};
  other.ifindexes = {kEth1};
  other.asked = {asked(kEth0, false), asked(kEth1, true), asked(kEth1, true)};
  EXPECT_EQ(blindness({s, other}, a_host()), Sentences{}) << "each captures its own";
}

TEST(Blindness, PassedOnToAContainer) {
  MappingView s = a_view();
  AskedConnection c = asked(kEth1, false);
  c.passed_to = ip("172.17.0.2");
  c.passed_by = kEth0;
  s.asked = {c, c};
  EXPECT_EQ(blindness({s}, a_host()),
            Sentences{"mapping data: no request seen for 30 s on eth0, but 2 connections to port "
                      "11211 are passed on to 172.17.0.2, and leave by eth0; capture there with "
                      "direction egress, or on eth1, by which they come"});
}

TEST(Blindness, PacketsThatNoSocketTakes) {
  MappingView s = a_view();
  s.captured = 200;
  s.no_socket = 160;
  const auto found = blindness({s}, a_host());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(
      found[0].find("160 packets to port 11211 on eth0 that no socket of this host takes: DNAT?"),
      std::string::npos)
      << found[0];
  s.observed = 1;
  EXPECT_EQ(blindness({s}, a_host()), Sentences{}) << "the source takes some";
  s.observed = 0;
  s.no_socket = 3;
  EXPECT_EQ(blindness({s}, a_host()), Sentences{}) << "stray ones";
}

TEST(Blindness, EgressOnAServer) {
  MappingView s = a_view();
  s.direction = DP_DIR_EGRESS;
  s.asked = {asked(kEth0, false)};
  const auto found = blindness({s}, a_host());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].find("capture with direction ingress"), std::string::npos) << found[0];
}

} // namespace
} // namespace doppel
