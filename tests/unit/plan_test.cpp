// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/plan.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "doppel/names.h"
#include "tests/unit/a_host.h"
#include "userspace/plan/partial_plan.h"

namespace doppel {
namespace {
// It is no reason to take the target for on link.
TEST(Plan, AGatewayOfAnyFamilyIsLeftToTheKernel) {
  for (const char *gateway : {"10.0.0.254", "2001:db8::1"}) {
    HostView h = a_host();
    h.routes["10.0.0.2"].gateway = ip(gateway);
    EXPECT_EQ(make_plan(a_config(), h)->mappings[0].target[0].nexthop.w[3], 0u) << gateway;
  }
}

// Its packets need the kernel's route with them, and its answers come by lo.
TEST(Plan, ATargetOnThisHostIsReachedByLo) {
  HostView h = a_host();
  h.routes["10.0.0.1"] = a_route_here("10.0.0.1");
  const auto p = make_plan(a_config({"11211-10.0.0.1:11311"}), h);
  ASSERT_TRUE(p) << show_errors(p.errors());
  const dp_target &target = p->mappings[0].target[0];
  EXPECT_EQ(target.oif, 1u);
  EXPECT_EQ(DP_LOOPBACK, 1);
  EXPECT_FALSE(Address{target.nexthop}.is_set());
  EXPECT_EQ(Address{target.shadow_addr}, ip("10.0.0.1"));
  EXPECT_EQ(target.mtu, 65535);
  const Attachment back{DP_PROG_RETURN, "lo", 1, DP_DIR_INGRESS};
  EXPECT_EQ(std::count(p->attachments.begin(), p->attachments.end(), back), 1);
}

// Another instance at another address, and one whose clients are captured at the same time.
TEST(Plan, ATargetOnThisHostMayHaveThePortOfAnotherAddress) {
  HostView h = a_host();
  h.routes["10.9.0.1"] = a_route_here("10.9.0.1");
  EXPECT_TRUE(make_plan(a_config({"10.0.0.1:80-10.9.0.1:80"}), h));
  EXPECT_FALSE(make_plan(a_config({"10.9.0.1:80-10.9.0.1:80"}), h));
  EXPECT_FALSE(make_plan(a_config({"80-10.9.0.1:80"}), h));
  EXPECT_FALSE(make_plan(a_config({"80-10.9.0.1:81", "81-10.0.0.2:81"}), h));
}

// A port by both protocols is two mappings.
TEST(Plan, OneOfUdp) {
  Config c = a_config({"80-10.0.0.2:81", "82-10.0.0.2:82"});
  c.mappings[1].port_first = c.mappings[1].port_last = 80;
  c.mappings[1].protocol = IPPROTO_UDP;
  const auto p = make_plan(c, a_host());
  ASSERT_TRUE(p) << show_errors(p.errors());
  EXPECT_EQ(p->mappings[0].flags & DP_MAP_UDP, 0);
  EXPECT_EQ(p->mappings[1].flags & DP_MAP_UDP, DP_MAP_UDP);
  EXPECT_EQ(p->names[0].protocol, "tcp");
  EXPECT_EQ(p->names[1].protocol, "udp");
  ASSERT_EQ(p->ports.size(), 2u);
  EXPECT_EQ(p->ports[0].key.port.proto, IPPROTO_TCP);
  EXPECT_EQ(p->ports[1].key.port.proto, IPPROTO_UDP);
  c.mappings[1].protocol = IPPROTO_TCP;
  EXPECT_FALSE(make_plan(c, a_host()));
}

TEST(Plan, RowsOfARange) {
  Config c = a_config({"11211-10.0.0.2:21211", "80-10.9.0.2:8080"});
  MappingConfig &m = c.mappings[0];
  m.port_last = 11213;
  m.name = "data";
  m.join = false;
  m.any_host = true;
  m.max_bps = 5;
  m.application = DP_APP_MEMCACHED;
  m.targets.push_back({ip("10.9.0.2"), 31211, "t"});
  const auto p = make_plan(c, a_host());
  ASSERT_TRUE(p) << show_errors(p.errors());

  ASSERT_EQ(p->mappings.size(), 2u);
  const dp_mapping &row = p->mappings[0];
  EXPECT_EQ(row.n_targets, 2);
  EXPECT_EQ(row.application, DP_APP_MEMCACHED);
  EXPECT_EQ(row.flags, DP_MAP_JOIN_NEVER | DP_MAP_ANY_HOST);
  EXPECT_EQ(row.max_bps, 5u);
  EXPECT_EQ(row.target[0].address.w[2], htonl(0xffff));
  EXPECT_EQ(row.target[0].address.w[3], inet_addr("10.0.0.2"));
  EXPECT_EQ(row.target[0].shadow_addr.w[3], inet_addr("10.0.0.1"));
  EXPECT_EQ(row.target[0].oif, 2u);
  EXPECT_EQ(row.target[0].nexthop.w[3], inet_addr("10.0.0.2")) << "on link";
  EXPECT_EQ(row.target[0].port, 21211);
  EXPECT_EQ(row.target[0].mtu, 1500);
  EXPECT_EQ(row.target[1].shadow_addr.w[3], inet_addr("10.9.0.1"));
  EXPECT_EQ(row.target[1].oif, 3u);
  EXPECT_EQ(row.target[1].mtu, 9000);

  ASSERT_EQ(p->ports.size(), 4u);
  for (unsigned i = 0; i < 3; i++) {
    EXPECT_EQ(p->ports[i].key.port.ifindex, 2u);
    EXPECT_EQ(p->ports[i].key.port.port, 11211 + i);
    EXPECT_EQ(p->ports[i].key.port.proto, 6);
    EXPECT_EQ(p->ports[i].key.port.direction, DP_DIR_INGRESS);
    EXPECT_FALSE(Address{p->ports[i].key.address}.is_set());
    EXPECT_EQ(p->ports[i].val.mapping, 0);
    EXPECT_EQ(p->ports[i].val.offset, i);
  }
  EXPECT_EQ(p->ports[3].key.port.port, 80);
  EXPECT_EQ(p->ports[3].val.mapping, 1);
  EXPECT_EQ(p->ports[3].val.offset, 0);

  ASSERT_EQ(p->names.size(), 2u);
  EXPECT_EQ(p->names[0].name, "data");
  EXPECT_EQ(p->names[0].devices, std::vector<std::string>{"eth0"});
  EXPECT_EQ(p->names[0].direction, "ingress");
  EXPECT_EQ(p->names[0].protocol, "tcp");
  EXPECT_EQ(p->names[0].ports, "11211-11213");
  EXPECT_EQ(p->names[0].targets, (std::vector<std::string>{"10.0.0.2:21211", "10.9.0.2:31211"}));
}

TEST(Plan, ShadowAddressesHavePools) {
  HostView h = a_host();
  h.devices[1].addresses.push_back(ip("10.0.0.4"));
  h.devices[2].addresses.push_back(ip("10.0.0.5"));
  Config c = a_config({"80-10.0.0.2:80", "81-10.9.0.2:81"});
  c.limits.port_first = 20000;
  c.limits.port_last = 20009;
  c.mappings[0].targets[0].shadow_addresses = {{ip("10.0.0.4"), "a"}, {ip("10.0.0.5"), "b"}};
  c.mappings[1].targets[0].shadow_addresses = {{ip("10.0.0.5"), "c"}};
  const auto p = make_plan(c, h);
  ASSERT_TRUE(p) << show_errors(p.errors());
  EXPECT_EQ(p->pools, (std::vector<Address>{{}, ip("10.0.0.4"), ip("10.0.0.5")}));
  EXPECT_EQ(p->config.ports, 10u);
  EXPECT_EQ(p->config.slots, 30u);
  const dp_target &t = p->mappings[0].target[0], &u = p->mappings[1].target[0];
  ASSERT_EQ(t.n_pools, 3);
  EXPECT_EQ(t.pool[0], 0);
  EXPECT_EQ(t.pool[1], 1);
  EXPECT_EQ(t.pool[2], 2);
  ASSERT_EQ(u.n_pools, 2);
  EXPECT_EQ(u.pool[0], 0);
  EXPECT_EQ(u.pool[1], 2) << "one address has one pool, whoever lists it";
  EXPECT_TRUE(p->warnings.empty());

  // What the route says is an address as others, if one lists it.
  h.routes["10.9.0.2"].source = ip("10.0.0.4");
  EXPECT_EQ(make_plan(c, h)->mappings[1].target[0].pool[0], 1);
  h.routes["10.9.0.2"].source = ip("10.0.0.5");
  const auto same = make_plan(c, h);
  EXPECT_EQ(same->mappings[1].target[0].pool[0], 2);
  ASSERT_EQ(same->warnings.size(), 1u);
  EXPECT_EQ(same->warnings[0], "copies to 10.9.0.2:81 come from 10.0.0.5 anyway: in "
                               "\"shadow_addresses\" it makes no room for more");
}

TEST(Plan, WithoutShadowAddressesThereIsOnePool) {
  const auto p = make_plan(a_config(), a_host());
  EXPECT_EQ(p->pools.size(), 1u);
  EXPECT_EQ(p->config.slots, p->config.ports);
  EXPECT_EQ(p->mappings[0].target[0].n_pools, 1);
  EXPECT_EQ(p->mappings[0].target[0].pool[0], 0);
}

TEST(Plan, ClientsAddressesAreNotOfAPoolOfAnother) {
  Config c = a_config({"80-10.0.0.2:80", "81-10.9.0.2:81"});
  c.mappings[0].targets[0].shadow_addresses = {{ip("10.9.0.1"), "a"}};
  c.mappings[1].targets[0].keep_client = true;
  const auto p = make_plan(c, a_host());
  ASSERT_FALSE(p);
  ASSERT_EQ(p.errors().size(), 1u) << show_errors(p.errors());
  EXPECT_EQ(p.errors()[0].where, c.mappings[1].targets[0].where);
  EXPECT_EQ(p.errors()[0].what,
            "copies to 10.9.0.2:81 cannot have their clients' addresses, because they would leave "
            "from 10.9.0.1, which \"shadow_addresses\" names");
  c.mappings[1].targets[0].keep_client = false;
  EXPECT_TRUE(make_plan(c, a_host()));
}

TEST(Plan, ShadowAddressesAreThisHosts) {
  Config c = a_config();
  c.mappings[0].targets[0].shadow_addresses = {
      {ip("10.0.0.77"), "a"}, {ip("10.9.0.1"), "b"}, {ip("10.0.0.2"), "c"}};
  const auto refused = make_plan(c, a_host());
  ASSERT_FALSE(refused);
  ASSERT_EQ(refused.errors().size(), 2u) << show_errors(refused.errors());
  EXPECT_EQ(refused.errors()[0].where, "a");
  EXPECT_EQ(refused.errors()[0].what, "the address 10.0.0.77 is not this host's");
  EXPECT_EQ(refused.errors()[0].hint,
            "`ip address` lists those that are; give it to a device, or take it out of "
            "\"shadow_addresses\"");
  EXPECT_EQ(refused.errors()[0].exit, Exit::failure);
  EXPECT_EQ(refused.errors()[1].where, "c");
}

TEST(Plan, AddressOfTheService) {
  const auto p = make_plan(
      a_config({"10.0.0.1:80-10.0.0.2:80", "[2001:db8::1]:80-10.0.0.3:80", "80-10.0.0.2:81"}),
      a_host());
  ASSERT_TRUE(p) << show_errors(p.errors());
  ASSERT_EQ(p->ports.size(), 3u);
  EXPECT_EQ(Address{p->ports[0].key.address}, ip("10.0.0.1"));
  EXPECT_EQ(Address{p->ports[1].key.address}, ip("2001:db8::1"));
  EXPECT_FALSE(Address{p->ports[2].key.address}.is_set());
  for (unsigned i = 0; i < 3; i++) {
    EXPECT_EQ(p->ports[i].key.port.port, 80);
    EXPECT_EQ(p->ports[i].val.mapping, i);
    EXPECT_EQ(p->ports[i].val.by_address, 0);
  }
  EXPECT_EQ(p->names[0].address, "10.0.0.1");
  EXPECT_EQ(p->names[0].ports, "80");
  EXPECT_EQ(p->names[0].service(), "10.0.0.1:80");
  EXPECT_EQ(p->names[1].name, "[2001:db8::1]:80");
  EXPECT_EQ(p->names[2].address, "");
  EXPECT_EQ(p->names[2].service(), "80");
  ASSERT_EQ(p->notes.size(), 1u);
  EXPECT_EQ(p->notes[0], "mapping [2001:db8::1]:80 is for the address 2001:db8::1, which no device "
                         "of this host has; `ip address` lists those that there are");
}

// What goes to another address than the target's is none of its copies.
TEST(Plan, CopiesThatAnotherAddressWouldHaveCaptured) {
  Config c = a_config({"10.0.0.3:80-10.0.0.2:80"});
  c.mappings[0].direction = DP_DIR_EGRESS;
  EXPECT_TRUE(make_plan(c, a_host()));
  Config other = a_config({"80-10.0.0.2:80", "10.0.0.2:80-10.0.0.3:80"});
  other.mappings[1].direction = DP_DIR_EGRESS;
  const auto refused = make_plan(other, a_host());
  ASSERT_FALSE(refused);
  EXPECT_NE(show_errors(refused.errors()).find("would be captured again"), std::string::npos);
}

TEST(Plan, LastPortOfAll) {
  Config c = a_config({"65534-10.0.0.2:65534"});
  c.mappings[0].port_last = 65535;
  const auto p = make_plan(c, a_host());
  ASSERT_TRUE(p) << show_errors(p.errors());
  ASSERT_EQ(p->ports.size(), 2u);
  EXPECT_EQ(p->ports[1].key.port.port, 65535);
}

TEST(Plan, LimitsBecomeTheShape) {
  Config c = a_config();
  c.limits.flows = 99;
  c.limits.port_first = 20000;
  c.limits.port_last = 20009;
  c.limits.store_bytes = 8u << 20;
  c.limits.flow_cap = 1u << 20;
  c.limits.idle_s = 9;
  c.limits.rto_min_ms = 20;
  c.limits.rto_max_ms = 30;
  c.limits.tries = 4;
  c.limits.syn_tries = 5;
  c.limits.backoff_ms = 6;
  const auto p = make_plan(c, a_host());
  ASSERT_TRUE(p) << show_errors(p.errors());
  EXPECT_EQ(p->flows, 99u);
  EXPECT_EQ(p->chunks, (8u << 20) / DP_CHUNK);
  EXPECT_EQ(p->config.port_first, 20000u);
  EXPECT_EQ(p->config.slots, 10u);
  EXPECT_EQ(p->config.flow_cap, 1u << 20);
  EXPECT_EQ(p->limits.idle_s, 9u);
  EXPECT_EQ(p->config.rto_min_ms, 20u);
  EXPECT_EQ(p->config.rto_max_ms, 30u);
  EXPECT_EQ(p->config.tries, 4u);
  EXPECT_EQ(p->config.syn_tries, 5u);
  EXPECT_EQ(p->config.backoff_ms, 6u);
}

std::vector<std::string> hooks(const Plan &p) {
  std::vector<std::string> list;
  for (const Attachment &a : p.attachments)
    list.push_back(a.program + " " + a.device + "/" + std::to_string(a.ifindex) + " " +
                   direction_name(a.direction));
  return list;
}

TEST(Plan, EachProgramOncePerHookReturnsFirst) {
  Config c = a_config({"1-10.0.0.2:1", "2-10.0.0.3:1", "3-10.9.0.2:1"});
  const auto p = make_plan(c, a_host());
  ASSERT_TRUE(p) << show_errors(p.errors());
  EXPECT_EQ(hooks(*p), (std::vector<std::string>{"doppel_return eth0/2 ingress",
                                                 "doppel_return eth1/3 ingress",
                                                 "doppel_ingress eth0/2 ingress"}));
}

TEST(Plan, ReturnIsOnEveryDeviceThatMayHearAnswers) {
  HostView host = a_host();
  host.devices.push_back(a_device(9, "port", {})); // of a bridge
  host.devices[1].answers = host.devices[2].answers = true;
  const auto p = make_plan(a_config({"1-10.0.0.2:1"}), host);
  ASSERT_TRUE(p) << show_errors(p.errors());
  EXPECT_EQ(hooks(*p), (std::vector<std::string>{"doppel_return eth0/2 ingress",
                                                 "doppel_return eth1/3 ingress",
                                                 "doppel_ingress eth0/2 ingress"}));
  EXPECT_FALSE(p->attachments[0].optional); // the route leads there
  EXPECT_TRUE(p->attachments[1].optional);
}

TEST(Plan, EgressCapturesOnEgress) {
  Config c = a_config({"1-10.0.0.2:7", "2-10.0.0.3:8"});
  c.mappings[1].direction = DP_DIR_EGRESS;
  c.mappings[1].devices = {"eth1"};
  const auto p = make_plan(c, a_host());
  ASSERT_TRUE(p) << show_errors(p.errors());
  EXPECT_EQ(hooks(*p), (std::vector<std::string>{"doppel_return eth0/2 ingress",
                                                 "doppel_ingress eth0/2 ingress",
                                                 "doppel_egress eth1/3 egress"}));
  EXPECT_EQ(p->ports[1].key.port.direction, DP_DIR_EGRESS);
  EXPECT_EQ(p->ports[1].key.port.ifindex, 3u);
  EXPECT_EQ(p->names[1].direction, "egress");
}

TEST(Plan, EgressMappingMayHaveItsOwnPortOnTheTarget) {
  Config c = a_config({"11211-10.0.0.2:11211"});
  c.mappings[0].direction = DP_DIR_EGRESS;
  const auto p = make_plan(c, a_host());
  EXPECT_TRUE(p) << show_errors(p.errors());
}

TEST(Plan, EgressPortsMayLieInTheShadowRange) {
  Config c = a_config({"27017-10.0.0.2:27017"});
  c.mappings[0].direction = DP_DIR_EGRESS;
  const auto p = make_plan(c, a_host());
  EXPECT_TRUE(p) << show_errors(p.errors());
}

struct Mode {
  AttachMode mode;
  bool has_tcx, tcx;
};

TEST(Plan, AttachMode) {
  for (const Mode &m :
       {Mode{AttachMode::automatic, true, true}, Mode{AttachMode::automatic, false, false},
        Mode{AttachMode::tcx, true, true}, Mode{AttachMode::clsact, true, false},
        Mode{AttachMode::clsact, false, false}}) {
    Config c = a_config();
    HostView h = a_host();
    c.attach_mode = m.mode;
    h.has_tcx = m.has_tcx;
    const auto p = make_plan(c, h);
    ASSERT_TRUE(p);
    EXPECT_EQ(p->mode, m.tcx ? AttachMode::tcx : AttachMode::clsact);
  }
}

TEST(Plan, MtuFallsBackToTheDevice) {
  HostView h = a_host();
  h.routes["10.0.0.2"].mtu = 0;
  h.devices[1].mtu = 1400;
  EXPECT_EQ(make_plan(a_config(), h)->mappings[0].target[0].mtu, 1400);
  h.devices[1].mtu = 0;
  EXPECT_EQ(make_plan(a_config(), h)->mappings[0].target[0].mtu, 1500);
  h.routes["10.0.0.2"].mtu = 65536;
  EXPECT_EQ(make_plan(a_config(), h)->mappings[0].target[0].mtu, 65535) << "lo has 65536";
}

TEST(Plan, DeviceDownIsAWarning) {
  HostView h = a_host();
  h.devices[1].up = false;
  const auto p = make_plan(a_config({"1-10.0.0.2:1", "2-10.0.0.2:1"}), h);
  ASSERT_TRUE(p) << show_errors(p.errors());
  EXPECT_EQ(p->warnings,
            (std::vector<std::string>{"device eth0 is down: nothing is captured until it is up"}));
}

struct Refused {
  const char *name;
  void (*change)(Config &, HostView &);
  const char *where, *what, *hint;
  Exit exit;
};

void PrintTo(const Refused &r, std::ostream *out) { *out << r.name; }

class RefusedPlan : public testing::TestWithParam<Refused> {};

TEST_P(RefusedPlan, HasExactlyThisError) {
  Config c = a_config();
  HostView h = a_host();
  GetParam().change(c, h);
  const auto p = make_plan(c, h);
  ASSERT_FALSE(p);
  ASSERT_EQ(p.errors().size(), 1u) << show_errors(p.errors());
  const Error &e = p.errors()[0];
  EXPECT_EQ(e.where, GetParam().where);
  EXPECT_EQ(e.what, GetParam().what);
  EXPECT_EQ(e.hint, GetParam().hint);
  EXPECT_EQ(e.exit, GetParam().exit);
}

constexpr const char *x = "-x 11211-10.0.0.2:21211";
constexpr const char *see_route = "see `ip route get 10.0.0.2`; a VRF's address is one such";

INSTANTIATE_TEST_SUITE_P(
    Host, RefusedPlan,
    testing::Values(
        Refused{"device_missing", [](Config &c, HostView &) { c.mappings[0].devices = {"eth7x9"}; },
                x, "there is no device \"eth7x9\"", "`ip link` lists the devices", Exit::failure},
        Refused{"device_near", [](Config &c, HostView &) { c.mappings[0].devices = {"etho"}; }, x,
                "there is no device \"etho\"", "did you mean \"eth0\"?", Exit::failure},
        Refused{"device_ours", [](Config &c, HostView &) { c.mappings[0].devices = {"doppel0"}; },
                x, "device doppel0 is doppel's own",
                "name the device that carries the clients' traffic", Exit::usage},
        Refused{"device_not_ethernet",
                [](Config &c, HostView &h) {
                  DeviceView d = a_device(9, "wg0", {});
                  d.ethernet = false;
                  h.devices.push_back(d);
                  c.mappings[0].devices = {"wg0"};
                },
                x, "device wg0 has no Ethernet header", "capture on the Ethernet device below it",
                Exit::failure},
        Refused{"no_route", [](Config &, HostView &h) { h.routes.erase("10.0.0.2"); }, x,
                "this host has no route to the target 10.0.0.2", "see `ip route get 10.0.0.2`",
                Exit::failure},
        Refused{"route_not_ethernet",
                [](Config &, HostView &h) {
                  h.devices[2].ethernet = false;
                  h.routes["10.0.0.2"].device = "eth1";
                },
                x,
                "the route to the target 10.0.0.2 leaves through device eth1, which has no "
                "Ethernet header",
                "only targets behind an Ethernet device can be reached", Exit::failure},
        Refused{"no_source", [](Config &, HostView &h) { h.routes["10.0.0.2"].source = {}; }, x,
                "this host has no address of its own toward the target 10.0.0.2",
                "give device eth0 an IPv4 address", Exit::failure},
        Refused{"target_local_elsewhere",
                [](Config &c, HostView &h) {
                  c.mappings[0].targets[0].port = 11311;
                  h.routes["10.0.0.2"].local = true;
                },
                x,
                "the target 10.0.0.2 is this host itself, and its route does not lead through lo",
                see_route, Exit::failure},
        Refused{"target_local_without_route",
                [](Config &c, HostView &h) {
                  c.mappings[0].targets[0].port = 11311;
                  h.devices[2].addresses.push_back(ip("10.0.0.2"));
                  h.routes.erase("10.0.0.2");
                },
                x,
                "the target 10.0.0.2 is this host itself, and its route does not lead through lo",
                see_route, Exit::failure},
        Refused{"target_local_lo_down",
                [](Config &c, HostView &h) {
                  c.mappings[0].targets[0].port = 11311;
                  h.routes["10.0.0.2"] = a_route_here("10.0.0.2");
                  h.devices[0].up = false;
                },
                x, "the target 10.0.0.2 is this host itself, and device lo is down",
                "ip link set lo up", Exit::failure},
        Refused{"target_local_in_shadow_ports",
                [](Config &c, HostView &h) {
                  h.routes["10.0.0.2"] = a_route_here("10.0.0.2");
                  c.mappings[0].targets[0].port = 32767;
                },
                x,
                "the target 10.0.0.2:32767 is this host itself, inside the shadow ports "
                "16384-32767",
                "set \"shadow_ports\" to a range that holds no service of this host", Exit::usage},
        Refused{"target_local_captured_as_it_leaves",
                [](Config &c, HostView &h) {
                  h.routes["10.0.0.2"] = a_route_here("10.0.0.2");
                  c.mappings[0].targets[0].port = 11311;
                  MappingConfig m = c.mappings[0];
                  m.name = "b";
                  m.devices = {"lo"};
                  m.direction = DP_DIR_EGRESS;
                  m.port_first = m.port_last = 11311;
                  m.targets[0].address = ip("10.0.0.3");
                  c.mappings.push_back(m);
                },
                x, "copies to 10.0.0.2:11311 would be captured again by mapping \"b\"",
                "both use device lo and the same port: give the target another port", Exit::usage},
        Refused{"target_captured_by_itself",
                [](Config &c, HostView &) {
                  c.mappings[0].targets[0].address = ip("10.0.0.1");
                  c.mappings[0].targets[0].port = 11211;
                },
                x,
                "the target 10.0.0.1:11211 is this host itself, at ports that mapping \"11211\" "
                "captures",
                "every copy would be copied again; name another host, or other ports", Exit::usage},
        Refused{"copies_captured_by_another",
                [](Config &c, HostView &) {
                  MappingConfig m = c.mappings[0];
                  m.name = "b";
                  m.direction = DP_DIR_EGRESS;
                  m.port_first = m.port_last = 21211;
                  m.targets[0].address = ip("10.0.0.3");
                  m.targets[0].port = 1;
                  c.mappings.push_back(m);
                },
                x, "copies to 10.0.0.2:21211 would be captured again by mapping \"b\"",
                "both use device eth0 and the same port: give the target another port",
                Exit::usage},
        Refused{"copies_captured_by_another_of_the_same_target",
                [](Config &c, HostView &) {
                  MappingConfig m = c.mappings[0];
                  m.name = "b";
                  m.direction = DP_DIR_EGRESS;
                  m.port_first = m.port_last = 21211;
                  m.targets[0].port = 11211;
                  c.mappings.push_back(m);
                },
                x, "copies to 10.0.0.2:21211 would be captured again by mapping \"b\"",
                "both use device eth0 and the same port: give the target another port",
                Exit::usage},
        Refused{"no_tcx",
                [](Config &c, HostView &h) {
                  c.attach_mode = AttachMode::tcx;
                  h.has_tcx = false;
                },
                "attach mode tcx", "this kernel has no TCX (it came with Linux 6.6)",
                "use --attach-mode clsact, or auto", Exit::failure},
        Refused{"shadow_ports_local", [](Config &, HostView &h) { h.local_port_first = 1024; },
                "command line: shadow_ports",
                "the range 16384-32767 overlaps net.ipv4.ip_local_port_range (1024-60999): this "
                "host's own connections could take a shadow's port",
                "set \"shadow_ports\" to a range outside of it, or keep this one free: sysctl -w "
                "net.ipv4.ip_local_reserved_ports=16384-32767",
                Exit::failure},
        Refused{"shadow_ports_captured",
                [](Config &c, HostView &) {
                  c.mappings[0].port_first = c.mappings[0].port_last = 20000;
                },
                x, "ports 20000 lie inside the shadow ports 16384-32767",
                "set \"shadow_ports\" to a range that holds no service of this host", Exit::usage},
        Refused{"shadow_ports_low", [](Config &c, HostView &) { c.limits.port_first = 80; },
                "command line: shadow_ports", "the range 80-32767 cannot be used",
                "give a range within 1024-65535", Exit::usage},
        Refused{"overlap",
                [](Config &c, HostView &) {
                  c.mappings.push_back(c.mappings[0]);
                  c.mappings[1].name = "b";
                  c.mappings[1].where = "w";
                },
                "w", "ports 11211 overlap ports 11211 of -x 11211-10.0.0.2:21211",
                "a port of a device is captured once per direction, and once for each \"address\": "
                "give one mapping two targets "
                "instead",
                Exit::usage}),
    testing::PrintToStringParamName());

TEST(Plan, ReservedPortsMayBeShadows) {
  HostView h = a_host();
  h.local_port_first = 1024;
  h.local_reserved = {{16000, 20000}, {20001, 32767}};
  EXPECT_TRUE(make_plan(a_config(), h));
  h.local_reserved = {{16000, 20000}, {20002, 32767}};
  EXPECT_FALSE(make_plan(a_config(), h)) << "20001 is neither reserved nor outside";
}

// The hint never takes from the host what it connects with, nor from others what they reserved.
TEST(Plan, HintOfReservedPortsDoesNoHarm) {
  HostView h = a_host();
  h.local_port_first = 1024;
  h.local_reserved = {{8080, 8080}, {9148, 9150}};
  auto refused = make_plan(a_config(), h);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.errors()[0].hint.find("ip_local_reserved_ports=8080,9148-9150,16384-32767"),
            std::string::npos)
      << refused.errors()[0].hint;
  h = a_host();
  Config c = a_config({"80-10.0.0.2:80"});
  c.limits.port_first = 1024;
  c.limits.port_last = 65535;
  refused = make_plan(c, h);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.errors()[0].hint, "set \"shadow_ports\" to a range outside of it");
}

IpsecPolicy policy_to(const char *to, uint8_t bits) {
  IpsecPolicy p;
  p.to = {ip(to).family(), ip(to), bits};
  p.from = {ip(to).family(), {}, 0};
  p.priority = 100;
  p.transform = true;
  return p;
}

// What stays on the host is nothing to encrypt, and the kernel does not.
TEST(Plan, IpsecDoesNotConcernLo) {
  HostView h = a_host();
  h.routes["10.0.0.1"] = a_route_here("10.0.0.1");
  h.ipsec = {policy_to("10.0.0.0", 8)};
  EXPECT_TRUE(make_plan(a_config({"11211-10.0.0.1:11311"}), h));
  EXPECT_FALSE(make_plan(a_config(), h));
}

TEST(Plan, AnIpsecPolicyOfTheTargetIsRefused) {
  HostView h = a_host();
  h.ipsec = {policy_to("10.0.0.2", 32)};
  Config c = a_config();
  const auto refused = make_plan(c, h);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.errors()[0].what,
            "an IPsec policy of this host covers the target 10.0.0.2, and copies would leave "
            "unencrypted");
  EXPECT_NE(refused.errors()[0].hint.find("--bypass-ipsec"), std::string::npos);
  c.mappings[0].bypass_ipsec = true;
  EXPECT_TRUE(make_plan(c, h)) << "the user wants it so";
}

TEST(Plan, WhatAnIpsecPolicyDoesIsTold) {
  const struct {
    std::function<void(HostView &)> set;
    const char *words;
  } cases[] = {
      {[](HostView &h) { (h.ipsec = {policy_to("10.0.0.2", 32)})[0].optional = true; },
       "covers the target 10.0.0.2 while a security association is up, and copies would leave "
       "unencrypted then as well"},
      {[](HostView &h) { (h.ipsec = {policy_to("10.0.0.2", 32)})[0].block = true; },
       "an IPsec policy of this host blocks what it sends to the target 10.0.0.2"},
      {[](HostView &h) { h.ipsec_blocks = true; },
       "this host blocks what no IPsec policy lets pass (ip xfrm policy getdefault), none lets "
       "pass what it sends to the target 10.0.0.2"},
  };
  for (const auto &one : cases) {
    HostView h = a_host();
    one.set(h);
    const auto refused = make_plan(a_config(), h);
    ASSERT_FALSE(refused) << one.words;
    EXPECT_NE(refused.errors()[0].what.find(one.words), std::string::npos)
        << refused.errors()[0].what;
  }
}

TEST(Plan, IpsecPoliciesAreMatchedAsTheKernelDoes) {
  const struct {
    const char *what;
    std::function<void(HostView &)> set;
    bool refused;
  } cases[] = {
      {"a prefix", [](HostView &h) { h.ipsec = {policy_to("10.0.0.0", 24)}; }, true},
      {"everything", [](HostView &h) { h.ipsec = {policy_to("0.0.0.0", 0)}; }, true},
      {"another host", [](HostView &h) { h.ipsec = {policy_to("10.0.0.3", 32)}; }, false},
      {"the other family", [](HostView &h) { h.ipsec = {policy_to("2001:db8::", 0)}; }, false},
      {"UDP", [](HostView &h) { (h.ipsec = {policy_to("10.0.0.2", 32)})[0].proto = 17; }, false},
      {"another port",
       [](HostView &h) {
         h.ipsec = {policy_to("10.0.0.2", 32)};
         h.ipsec[0].to_port = 80;
         h.ipsec[0].to_mask = 0xffff;
       },
       false},
      {"this port",
       [](HostView &h) {
         h.ipsec = {policy_to("10.0.0.2", 32)};
         h.ipsec[0].to_port = 21211;
         h.ipsec[0].to_mask = 0xffff;
       },
       true},
      {"from another address",
       [](HostView &h) {
         h.ipsec = {policy_to("10.0.0.2", 32)};
         h.ipsec[0].from = {Family::v4, ip("10.9.0.1"), 32};
       },
       false},
      {"another device",
       [](HostView &h) { (h.ipsec = {policy_to("10.0.0.2", 32)})[0].ifindex = 3; }, false},
      {"an exception before it",
       [](HostView &h) {
         h.ipsec = {policy_to("10.0.0.0", 8), policy_to("10.0.0.2", 32)};
         h.ipsec[1].transform = false;
         h.ipsec[1].priority = 10;
       },
       false},
      {"an exception behind it",
       [](HostView &h) {
         h.ipsec = {policy_to("10.0.0.0", 8), policy_to("10.0.0.2", 32)};
         h.ipsec[1].transform = false;
         h.ipsec[1].priority = 200;
       },
       true},
      {"a block",
       [](HostView &h) {
         h.ipsec = {policy_to("10.0.0.2", 32)};
         h.ipsec[0].transform = false;
         h.ipsec[0].block = true;
       },
       true},
      {"nothing allowed", [](HostView &h) { h.ipsec_blocks = true; }, true},
  };
  for (const auto &one : cases) {
    HostView h = a_host();
    one.set(h);
    EXPECT_EQ(!make_plan(a_config(), h), one.refused) << one.what;
  }
}

// What is mirrored already must end when a policy comes, and not wait for it to go.
TEST(Plan, AForbiddenMappingIsNotDeferred) {
  HostView h = a_host();
  h.ipsec = {policy_to("10.0.0.2", 32)};
  const auto partial = make_partial_plan(a_config({"1-10.0.0.2:1", "2-10.0.0.3:2"}), h);
  ASSERT_TRUE(partial);
  EXPECT_TRUE(partial->forbidden);
  EXPECT_TRUE(partial->deferred.empty());
  EXPECT_EQ(partial->why.size(), 1u);
  ASSERT_EQ(partial->plan.names.size(), 1u);
  EXPECT_EQ(partial->plan.names[0].name, "2");
}

// Room is made at attach, and late ones are to find it.
TEST(Plan, WhatIsDeferredHasRoomAsAMapping) {
  std::vector<std::string> all;
  for (int port = 1; port <= 70; port++)
    all.push_back(std::to_string(port) + "-10.0.0.2:" + std::to_string(port));
  Config c = a_config(all);
  for (MappingConfig &m : c.mappings)
    if (&m != &c.mappings.front())
      m.devices = {"eth9"};
  const auto partial = make_partial_plan(c, a_host());
  ASSERT_TRUE(partial) << show_errors(partial.errors());
  EXPECT_EQ(partial->plan.mappings.size(), 1u);
  EXPECT_EQ(partial->plan.limits.max_mappings, 70u);
}

// With 2001:db8::2 on eth0's link, and a configuration that names it.
HostView a_host6() {
  HostView h = a_host();
  h.devices[1].addresses.push_back(ip("2001:db8::1"));
  h.routes["2001:db8::2"] = a_route(2, "eth0", "2001:db8::1");
  return h;
}

Config a_config6() { return a_config({"11211-[2001:db8::2]:11311"}); }

TEST(Plan, ATargetOfIPv6) {
  const auto p = make_plan(a_config6(), a_host6());
  ASSERT_TRUE(p) << show_errors(p.errors());
  const dp_target &t = p->mappings[0].target[0];
  EXPECT_EQ(Address{t.address}, ip("2001:db8::2"));
  EXPECT_EQ(Address{t.shadow_addr}, ip("2001:db8::1"));
  EXPECT_EQ(Address{t.nexthop}, ip("2001:db8::2")) << "on link";
  EXPECT_EQ(t.mtu, 1500);
  EXPECT_EQ(p->names[0].targets, std::vector<std::string>{"[2001:db8::2]:11311"});
  HostView h = a_host6();
  h.routes["2001:db8::2"].gateway = ip("fe80::1");
  EXPECT_FALSE(Address{make_plan(a_config6(), h)->mappings[0].target[0].nexthop}.is_set());
}

TEST(Plan, ATargetOfIPv6IsRefusedAsOneOfIPv4Is) {
  const struct {
    std::function<void(HostView &)> set;
    const char *what, *hint;
  } cases[] = {
      {[](HostView &h) { h.routes["2001:db8::2"].source = {}; },
       "this host has no address of its own toward the target 2001:db8::2",
       "give device eth0 a global or unique-local IPv6 address"},
      {[](HostView &h) { h.routes["2001:db8::2"].mtu = 1279; },
       "the path to the target 2001:db8::2 takes packets of 1279 bytes, and IPv6 needs 1280",
       "raise the MTU of device eth0, or of the route"},
      {[](HostView &h) { h.routes["2001:db8::2"].local = true; },
       "the target 2001:db8::2 is this host itself, and its route does not lead through lo",
       "see `ip route get 2001:db8::2`; a VRF's address is one such"},
      {[](HostView &h) { h.routes.erase("2001:db8::2"); },
       "this host has no route to the target 2001:db8::2", "see `ip route get 2001:db8::2`"},
      {[](HostView &h) { h.ipsec = {policy_to("2001:db8::", 32)}; },
       "an IPsec policy of this host covers the target 2001:db8::2, and copies would leave "
       "unencrypted",
       "copies pass IPsec by: if they may, say \"bypass_ipsec\": true in the mapping, or "
       "--bypass-ipsec"},
  };
  for (const auto &one : cases) {
    HostView h = a_host6();
    one.set(h);
    const auto refused = make_plan(a_config6(), h);
    ASSERT_FALSE(refused) << one.what;
    ASSERT_EQ(refused.errors().size(), 1u) << show_errors(refused.errors());
    EXPECT_EQ(refused.errors()[0].what, one.what);
    EXPECT_EQ(refused.errors()[0].hint, one.hint);
  }
  HostView h = a_host6();
  h.routes["2001:db8::2"].mtu = 1280;
  EXPECT_TRUE(make_plan(a_config6(), h));
  h.ipsec = {policy_to("10.0.0.0", 0)};
  EXPECT_TRUE(make_plan(a_config6(), h)) << "of IPv4";
}

// Of eth0, and of up0 that is above it.
Config both_captured(dp_direction direction = DP_DIR_INGRESS) {
  Config c = a_config();
  c.mappings.push_back(c.mappings[0]);
  c.mappings[1].name = "upper";
  c.mappings[1].where = "w";
  c.mappings[1].devices = {"up0"};
  for (MappingConfig &m : c.mappings)
    m.direction = direction;
  return c;
}

HostView stacked(const char *kind, bool same_mac = true) {
  HostView h = a_host();
  DeviceView up = a_device(9, "up0");
  up.kind = kind;
  up.mac = same_mac ? "aaaaaa" : "bbbbbb";
  h.devices[1].mac = "aaaaaa";
  const std::string name = kind;
  if (name == "bridge" || name == "bond")
    h.devices[1].master = 9;
  else
    up.lower = 2;
  h.devices.push_back(up);
  return h;
}

TEST(Plan, OneRequestIsCapturedOnceOfStackedDevices) {
  const auto refused = make_plan(both_captured(), stacked("bridge"));
  ASSERT_FALSE(refused);
  ASSERT_EQ(refused.errors().size(), 1u) << show_errors(refused.errors());
  EXPECT_EQ(refused.errors()[0].where, "w");
  EXPECT_EQ(refused.errors()[0].what,
            "mappings \"11211\" and \"upper\" capture the same requests, and the target "
            "10.0.0.2:21211 would get each twice: eth0 is a port of bridge up0");
  EXPECT_EQ(refused.errors()[0].hint, "capture on up0 alone");
  EXPECT_EQ(refused.errors()[0].exit, Exit::usage);
  Config c = both_captured();
  std::swap(c.mappings[0], c.mappings[1]);
  EXPECT_FALSE(make_plan(c, stacked("bridge"))) << "in either order";
}

TEST(Plan, WhichStackedDevicesHaveTheSamePackets) {
  const struct {
    const char *kind;
    bool same_mac;
    dp_direction direction;
    bool any_host, refused, warned;
  } cases[] = {
      {"bridge", false, DP_DIR_INGRESS, false, false, false},
      {"bridge", false, DP_DIR_INGRESS, true, true, false},
      {"bridge", false, DP_DIR_EGRESS, false, true, false},
      {"bond", true, DP_DIR_INGRESS, false, true, false},
      {"bond", false, DP_DIR_INGRESS, false, false, true},
      {"macvlan", false, DP_DIR_INGRESS, false, false, false},
      {"macvlan", true, DP_DIR_INGRESS, false, true, false},
      {"macvlan", false, DP_DIR_EGRESS, false, true, false},
      {"ipvlan", true, DP_DIR_INGRESS, false, false, true},
      {"vlan", true, DP_DIR_INGRESS, true, false, false},
      {"vlan", true, DP_DIR_EGRESS, false, false, false},
      {"vxlan", true, DP_DIR_INGRESS, true, false, false},
  };
  for (const auto &one : cases) {
    Config c = both_captured(one.direction);
    c.mappings[0].any_host = one.any_host;
    const auto plan = make_plan(c, stacked(one.kind, one.same_mac));
    EXPECT_EQ(!plan, one.refused) << one.kind << one.same_mac << one.direction << one.any_host;
    if (plan) {
      EXPECT_EQ(plan->warnings.size(), one.warned) << one.kind << one.same_mac;
    }
  }
}

TEST(Plan, StackedDevicesMayBeCapturedForDifferentThings) {
  const struct {
    const char *what;
    std::function<void(Config &)> set;
    size_t warnings;
  } cases[] = {
      {"ports", [](Config &c) { c.mappings[1].port_first = c.mappings[1].port_last = 80; }, 0},
      {"targets", [](Config &c) { c.mappings[1].targets[0].address = ip("10.0.0.3"); }, 0},
      {"target ports", [](Config &c) { c.mappings[1].targets[0].port = 1; }, 0},
      {"dry run", [](Config &c) { c.mappings[1].send_nothing(); }, 0},
      {"addresses",
       [](Config &c) {
         c.mappings[0].address = ip("10.0.0.1");
         c.mappings[1].address = ip("10.0.0.7");
       },
       0},
      {"sample", [](Config &c) { c.mappings[1].targets[0].portion.sample = 1000; }, 1},
  };
  for (const auto &one : cases) {
    Config c = both_captured();
    one.set(c);
    const auto plan = make_plan(c, stacked("bridge"));
    ASSERT_TRUE(plan) << one.what << show_errors(plan.errors());
    EXPECT_EQ(plan->warnings.size(), one.warnings) << one.what;
  }
}

// eth0 is a port of a bond, which is one of a bridge.
TEST(Plan, StackedDevicesMayHaveOthersBetweenThem) {
  HostView h = stacked("bridge");
  DeviceView bond = a_device(10, "bond0");
  bond.kind = "bond";
  bond.mac = "aaaaaa";
  bond.master = 9;
  h.devices[1].master = 10;
  h.devices.push_back(bond);
  const auto refused = make_plan(both_captured(), h);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.errors()[0].what.find("eth0 lies below up0"), std::string::npos);
}

TEST(Plan, RulesForWhatThisHostSendsAreTold) {
  HostView h = a_host();
  h.output_rules = {"nftables ip filter OUTPUT"};
  const auto plan = make_plan(a_config(), h);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->notes, std::vector<std::string>{
                             "copies are not subject to this host's rules for what it sends "
                             "(nftables ip filter OUTPUT): they pass netfilter by"});
}

TEST(Plan, AllErrorsAtOnce) {
  Config c = a_config({"1-10.0.0.9:1", "2-10.0.0.1:5"});
  c.mappings[0].devices = {"gone"};
  c.attach_mode = AttachMode::tcx;
  HostView h = a_host();
  h.has_tcx = false;
  h.local_port_last = 33000;
  h.local_port_first = 30000;
  const auto p = make_plan(c, h);
  ASSERT_FALSE(p);
  EXPECT_EQ(p.errors().size(), 5u) << show_errors(p.errors());
}

} // namespace
} // namespace doppel
