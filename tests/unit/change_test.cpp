// SPDX-License-Identifier: Apache-2.0
#include "userspace/plan/change.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "doppel/names.h"
#include "tests/unit/a_host.h"
#include "userspace/plan/partial_plan.h"

namespace doppel {
namespace {
Plan plan(const std::vector<std::string> &x, const HostView &h = a_host()) {
  auto p = make_plan(a_config(x), h);
  EXPECT_TRUE(p) << show_errors(p.errors());
  return *p;
}

// What is there after the plan was attached.
MirrorState state(const Plan &p) {
  MirrorState l;
  l.limits = p.limits;
  l.mode = p.mode;
  for (size_t i = 0; i < p.mappings.size(); i++)
    l.mappings.push_back({p.names[i], p.mappings[i], p.preambles[i]});
  for (const Address &a : p.pools)
    l.pools.push_back({a, 0});
  l.ports = p.ports;
  l.programs = l.running = p.attachments;
  return l;
}

Change change(const MirrorState &l, const Plan &p, const std::set<std::string> &deferred = {}) {
  auto c = plan_change(l, p, deferred);
  EXPECT_TRUE(c) << show_errors(c.errors());
  return *c;
}

std::vector<std::string> hooks(const std::vector<Attachment> &list) {
  std::vector<std::string> text;
  for (const Attachment &a : list)
    text.push_back(a.program + "@" + std::to_string(a.ifindex));
  return text;
}

using Strings = std::vector<std::string>;

TEST(Change, NothingForTheSame) {
  const Plan p = plan({"80-10.0.0.2:80", "81-10.9.0.2:81"});
  const Change c = change(state(p), p);
  EXPECT_TRUE(c.empty());
  EXPECT_EQ(to_text(c), "2 mappings, none changed");
}

TEST(Change, AnotherPreambleIsAnotherMapping) {
  const Plan now = plan({"80-10.0.0.2:80"});
  Config c = a_config({"80-10.0.0.2:80"});
  c.mappings[0].targets[0].preamble = "AUTH secret\r\n";
  const Change d = change(state(now), *make_plan(c, a_host()));
  ASSERT_EQ(d.new_rows.size(), 1u);
  EXPECT_EQ(d.preambles.at(d.new_rows[0].first), Preambles{"AUTH secret\r\n"});
  EXPECT_EQ(d.old_rows, std::vector<uint32_t>{0});
}

TEST(Change, AddressIsPartOfWhoAMappingIs) {
  const Plan before = plan({"80-10.0.0.2:80", "10.0.0.1:80-10.0.0.3:80"});
  EXPECT_TRUE(change(state(before), before).empty());
  const Plan after = plan({"80-10.0.0.2:80", "10.0.0.9:80-10.0.0.3:80"});
  const Change c = change(state(before), after);
  ASSERT_EQ(c.new_rows.size(), 1u);
  EXPECT_EQ(c.old_rows, std::vector<uint32_t>{1});
  ASSERT_EQ(c.ports.size(), 1u);
  EXPECT_EQ(Address{c.ports[0].key.address}, ip("10.0.0.9"));
  EXPECT_EQ(c.ports[0].val.mapping, 2);
  ASSERT_EQ(c.old_ports.size(), 1u);
  EXPECT_EQ(Address{c.old_ports[0].address}, ip("10.0.0.1"));
}

// The name stays, so that the address alone tells.
TEST(Change, MappingThatGetsAnAddressIsAnother) {
  Config c = a_config({"80-10.0.0.2:80"});
  const Plan before = *make_plan(c, a_host());
  c.mappings[0].address = ip("10.0.0.1");
  const Change now = change(state(before), *make_plan(c, a_host()));
  EXPECT_EQ(now.old_rows, std::vector<uint32_t>{0});
  ASSERT_EQ(now.old_ports.size(), 1u);
  EXPECT_FALSE(Address{now.old_ports[0].address}.is_set());
  EXPECT_EQ(to_text(now), "1 mapping; changed 80");
}

TEST(Change, OrderOfMappingsIsNoChange) {
  const Change c = change(state(plan({"80-10.0.0.2:80", "81-10.0.0.3:81"})),
                          plan({"81-10.0.0.3:81", "80-10.0.0.2:80"}));
  EXPECT_TRUE(c.empty());
  ASSERT_EQ(c.names.size(), 2u);
  EXPECT_EQ(c.names[0].row, 1u);
  EXPECT_EQ(c.names[1].row, 0u);
}

Plan plan_of(const Portion &portion, uint64_t seed = 0) {
  Config c = a_config({"80-10.0.0.2:80"});
  c.mappings[0].targets[0].portion = portion;
  c.mappings[0].seed = seed;
  auto p = make_plan(c, a_host());
  EXPECT_TRUE(p) << show_errors(p.errors());
  return *p;
}

// Connections that are known stay as they are.
TEST(Change, ASampleChangesInPlace) {
  const Change c = change(state(plan_of({})), plan_of({100'000, 1}));
  EXPECT_TRUE(c.new_rows.empty() && c.old_rows.empty());
  ASSERT_EQ(c.rows.size(), 1u);
  EXPECT_EQ(c.rows[0].second.target[0].sample, 429496730u);
  EXPECT_EQ(c.updated, Strings{"mapping 80: target 10.0.0.2 gets 10% of the connections that begin "
                               "from now on"});
  const Change d = change(state(plan_of({100'000, 1})), plan_of({100'000, 1}, 7));
  ASSERT_EQ(d.rows.size(), 1u);
  EXPECT_EQ(d.updated, Strings{"mapping 80: samples take other connections"});
  EXPECT_EQ(plan_of({100'000, 1}).notes.size(), 1u);
  EXPECT_TRUE(plan_of({}).notes.empty());
}

// Then connections that are open are decided anew.
TEST(Change, ADryRunBeginsAndEndsInPlace) {
  const Change begins = change(state(plan_of({})), plan_of({0, 1}));
  EXPECT_TRUE(begins.new_rows.empty() && begins.old_rows.empty());
  EXPECT_EQ(begins.relisted, std::set<uint32_t>{0});
  EXPECT_EQ(begins.updated,
            Strings{"mapping 80: target 10.0.0.2 gets nothing any more: a dry run"});
  const Change ends = change(state(plan_of({0, 1})), plan_of({}));
  EXPECT_EQ(ends.relisted, std::set<uint32_t>{0});
  EXPECT_EQ(ends.updated,
            Strings{"mapping 80: target 10.0.0.2 gets all connections, and the dry run is over"});
  EXPECT_TRUE(change(state(plan_of({0, 1})), plan_of({0, 1})).relisted.empty());
}

Plan plan_without(const std::vector<std::string> &clients) {
  Config c = a_config({"80-10.0.0.2:80", "81-10.0.0.3:81"});
  std::vector<ClientList::Entry> entries;
  for (const std::string &text : clients)
    entries.push_back({*parse_client(text), false});
  if (!entries.empty())
    c.mappings[1].clients = std::make_shared<const ClientList>(entries);
  auto p = make_plan(c, a_host());
  EXPECT_TRUE(p) << show_errors(p.errors());
  return *p;
}

TEST(Change, TheSameListKeepsItsNumber) {
  const Plan now = plan_without({"10.0.0.0/8", "192.168.0.0/16"});
  EXPECT_EQ(now.mappings[0].clients, 0);
  EXPECT_NE(now.mappings[1].clients, 0);
  const Change c = change(state(now), plan_without({"192.168.0.0/16", "10.0.0.0/8"}));
  EXPECT_TRUE(c.empty());
  EXPECT_TRUE(c.new_lists.empty() && c.relisted.empty() && !c.lists);
  EXPECT_EQ(c.names[1].clients, now.names[1].clients);
}

TEST(Change, AnotherListHasAnotherNumberInPlace) {
  const Plan now = plan_without({"10.0.0.0/8"});
  const Change c = change(state(now), plan_without({"10.0.0.0/9"}));
  EXPECT_TRUE(c.new_rows.empty() && c.old_rows.empty());
  ASSERT_EQ(c.rows.size(), 1u);
  ASSERT_EQ(c.new_lists.size(), 1u);
  EXPECT_NE(c.new_lists[0].number, now.mappings[1].clients);
  EXPECT_EQ(c.rows[0].second.clients, c.new_lists[0].number);
  EXPECT_EQ(c.names[1].clients.number, c.new_lists[0].number);
  EXPECT_EQ(c.relisted, std::set<uint32_t>{1});
  EXPECT_EQ(c.updated, Strings{"mapping 81: the clients are all but those of 1 prefix"});
}

TEST(Change, NoListAnyMore) {
  const Change c = change(state(plan_without({"10.0.0.0/8"})), plan_without({}));
  ASSERT_EQ(c.rows.size(), 1u);
  EXPECT_EQ(c.rows[0].second.clients, 0);
  EXPECT_TRUE(c.new_lists.empty() && c.lists);
  EXPECT_EQ(c.relisted, std::set<uint32_t>{1});
  EXPECT_EQ(c.updated, Strings{"mapping 81: all clients are mirrored"});
}

// It was killed between the row and what is known of it: either list may be the row's.
TEST(Change, AfterAnInterruptedChangeAListIsWrittenAnew) {
  const Plan wanted = plan_without({"10.0.0.0/8"});
  MirrorState now = state(wanted);
  now.mappings[1].row.clients = 7;
  const Change c = change(now, wanted);
  ASSERT_EQ(c.new_lists.size(), 1u);
  EXPECT_NE(c.new_lists[0].number, 7);
  EXPECT_NE(c.new_lists[0].number, wanted.mappings[1].clients) << "it may be written in part";
  EXPECT_EQ(c.relisted, std::set<uint32_t>{1});
}

TEST(Change, AnInterruptedRemovalOfAListIsEnded) {
  MirrorState now = state(plan_without({"10.0.0.0/8"}));
  now.mappings[1].row.clients = 0;
  const Change c = change(now, plan_without({}));
  EXPECT_TRUE(c.lists && c.new_lists.empty());
  EXPECT_EQ(c.relisted, std::set<uint32_t>{1}) << "open flows still go by it";
}

// A copy that is there no more would keep its shadow.
TEST(Change, CopiesMakeAnotherRow) {
  const Change c = change(state(plan_of({Portion::kAll, 8})), plan_of({Portion::kAll, 2}));
  EXPECT_EQ(c.old_rows, std::vector<uint32_t>{0});
  ASSERT_EQ(c.new_rows.size(), 1u);
  EXPECT_EQ(c.new_rows[0].second.target[0].copies, 2);
  EXPECT_TRUE(c.new_rows[0].second.flags & DP_MAP_COPIES);
}

TEST(Change, AGatewayIsLeftToTheKernel) {
  const Plan now = plan({"80-10.0.0.2:80"});
  HostView h = a_host();
  h.routes["10.0.0.2"].gateway = *parse_address("10.0.0.254");
  const Change d = change(state(now), *make_plan(a_config({"80-10.0.0.2:80"}), h));
  ASSERT_EQ(d.rows.size(), 1u);
  EXPECT_EQ(now.mappings[0].target[0].nexthop.w[3], inet_addr("10.0.0.2")) << "on link";
  EXPECT_EQ(d.rows[0].second.target[0].nexthop.w[3], 0u);
  EXPECT_EQ(d.updated, Strings{"mapping 80: target 10.0.0.2 is reached by another next hop from "
                               "10.0.0.1, MTU 1500"});
  h = a_host();
  h.routes["10.0.0.2"].plain = false; // such as an IPv6 gateway
  const Change e = change(state(now), *make_plan(a_config({"80-10.0.0.2:80"}), h));
  ASSERT_EQ(e.rows.size(), 1u);
  EXPECT_EQ(e.rows[0].second.target[0].nexthop.w[3], 0u);
}

TEST(Change, AddsInAFreeRow) {
  const Plan now = plan({"80-10.0.0.2:80"});
  const Change c = change(state(now), plan({"81-10.9.0.2:81", "80-10.0.0.2:80"}));
  ASSERT_EQ(c.new_rows.size(), 1u);
  EXPECT_EQ(c.new_rows[0].first, 1u);
  EXPECT_EQ(c.new_rows[0].second.target[0].oif, 3u);
  ASSERT_EQ(c.ports.size(), 1u);
  EXPECT_EQ(c.ports[0].key.port.port, 81);
  EXPECT_EQ(c.ports[0].val.mapping, 1);
  EXPECT_TRUE(c.rows.empty() && c.old_rows.empty() && c.old_ports.empty() && c.detach.empty());
  EXPECT_EQ(hooks(c.attach), Strings{DP_PROG_RETURN "@3"});
  EXPECT_EQ(to_text(c), "2 mappings; added 81");
}

TEST(Change, RemovesAndTakesProgramsAway) {
  const Change c =
      change(state(plan({"80-10.0.0.2:80", "81-10.9.0.2:81"})), plan({"80-10.0.0.2:80"}));
  EXPECT_EQ(c.old_rows, std::vector<uint32_t>{1});
  ASSERT_EQ(c.old_ports.size(), 1u);
  EXPECT_EQ(c.old_ports[0].port.port, 81);
  EXPECT_TRUE(c.new_rows.empty() && c.rows.empty() && c.ports.empty() && c.attach.empty());
  EXPECT_EQ(hooks(c.detach), Strings{DP_PROG_RETURN "@3"});
  EXPECT_EQ(to_text(c), "1 mapping; removed 81");
  EXPECT_EQ(removed_names(c), Strings{"81"});
}

// The port's row is overwritten, never deleted: there is no moment without.
TEST(Change, AnotherTargetIsAnotherRow) {
  const Change c = change(state(plan({"80-10.0.0.2:80"})), plan({"80-10.0.0.3:80"}));
  EXPECT_EQ(c.old_rows, std::vector<uint32_t>{0});
  ASSERT_EQ(c.new_rows.size(), 1u);
  EXPECT_EQ(c.new_rows[0].first, 1u);
  ASSERT_EQ(c.ports.size(), 1u);
  EXPECT_EQ(c.ports[0].val.mapping, 1);
  EXPECT_TRUE(c.old_ports.empty());
  EXPECT_EQ(to_text(c), "1 mapping; changed 80");
}

TEST(Change, ApplicationJoinAndPromiscuousMakeAnotherMapping) {
  const Plan now = plan({"80-10.0.0.2:80"});
  for (int what = 0; what < 3; what++) {
    Config c = a_config({"80-10.0.0.2:80"});
    MappingConfig &m = c.mappings[0];
    if (what == 0)
      m.application = DP_APP_ANY;
    else if (what == 1)
      m.join = false;
    else
      m.any_host = true;
    EXPECT_EQ(change(state(now), *make_plan(c, a_host())).old_rows, std::vector<uint32_t>{0})
        << what;
  }
}

TEST(Change, CeilingAndRouteChangeInPlace) {
  const Plan now = plan({"80-10.0.0.2:80"});
  Config c = a_config({"80-10.0.0.2:80"});
  c.mappings[0].max_bps = 1000;
  HostView h = a_host();
  h.routes["10.0.0.2"] = a_route(3, "eth1", "10.9.0.1");
  h.routes["10.0.0.2"].mtu = 1400;
  const Change d = change(state(now), *make_plan(c, h));
  EXPECT_TRUE(d.new_rows.empty() && d.old_rows.empty() && d.ports.empty());
  ASSERT_EQ(d.rows.size(), 1u);
  EXPECT_EQ(d.rows[0].second.max_bps, 1000u);
  EXPECT_EQ(d.rows[0].second.target[0].oif, 3u);
  EXPECT_EQ(hooks(d.attach), Strings{DP_PROG_RETURN "@3"});
  EXPECT_EQ(hooks(d.detach), Strings{DP_PROG_RETURN "@2"});
  EXPECT_EQ(d.updated, Strings{"mapping 80: target 10.0.0.2 is reached through another device from "
                               "10.9.0.1, MTU 1400; the ceiling is 1kbit/s"});
}

TEST(Change, ConvergeIsSwitchedInPlace) {
  Config c = a_config({"80-10.0.0.2:80"});
  c.mappings[0].application = DP_APP_MEMCACHED;
  const Plan off = *make_plan(c, a_host());
  c.mappings[0].converge = true;
  const Plan on = *make_plan(c, a_host());
  Change d = change(state(off), on);
  EXPECT_TRUE(d.new_rows.empty() && d.old_rows.empty() && d.ports.empty());
  ASSERT_EQ(d.rows.size(), 1u);
  EXPECT_TRUE(d.rows[0].second.flags & DP_MAP_CONVERGE);
  EXPECT_EQ(d.updated, Strings{"mapping 80: its servers are made to converge"});
  d = change(state(on), off);
  EXPECT_TRUE(d.new_rows.empty() && d.old_rows.empty());
  ASSERT_EQ(d.rows.size(), 1u);
  EXPECT_FALSE(d.rows[0].second.flags & DP_MAP_CONVERGE);
  EXPECT_EQ(d.updated, Strings{"mapping 80: its servers converge no more"});
  EXPECT_TRUE(change(state(on), on).empty());
}

TEST(Change, DeviceThatCameBackUnderAnotherNumber) {
  const MirrorState before = state(plan({"80-10.9.0.2:80"}));
  HostView h = a_host();
  h.devices[1].ifindex = 9; // eth0
  const Change c = change(before, plan({"80-10.9.0.2:80"}, h));
  EXPECT_TRUE(c.new_rows.empty() && c.rows.empty() && c.old_rows.empty());
  ASSERT_EQ(c.ports.size(), 1u);
  EXPECT_EQ(c.ports[0].key.port.ifindex, 9u);
  ASSERT_EQ(c.old_ports.size(), 1u);
  EXPECT_EQ(c.old_ports[0].port.ifindex, 2u);
  EXPECT_EQ(hooks(c.attach), Strings{DP_PROG_INGRESS "@9"});
  EXPECT_EQ(hooks(c.detach), Strings{DP_PROG_INGRESS "@2"});
}

TEST(Change, WhatIsHeldKeepsNoProgramOfADeviceThatWasReplaced) {
  MirrorState before = state(plan({"80-10.9.0.2:80", "81-10.0.0.2:81"}));
  HostView h = a_host();
  h.devices[1].ifindex = 9; // eth0
  const Plan now = plan({"80-10.9.0.2:80"}, h);
  const auto held = [&] { return hooks(change(before, now, {"81"}).detach); };
  EXPECT_EQ(held(), Strings{}); // they run on it yet: it was renamed
  before.running.clear();
  EXPECT_EQ(held(), Strings{DP_PROG_INGRESS "@2"}); // return is for what is held
}

TEST(Change, ProgramsThatOthersRemovedComeBack) {
  const Plan p = plan({"80-10.0.0.2:80"});
  MirrorState l = state(p);
  l.running.clear();
  const Change c = change(l, p);
  EXPECT_EQ(hooks(c.attach), (Strings{DP_PROG_RETURN "@2", DP_PROG_INGRESS "@2"}));
  EXPECT_TRUE(c.detach.empty());
}

TEST(Change, WhatIsHeldStays) {
  const MirrorState l = state(plan({"80-10.0.0.2:80", "81-10.9.0.2:81"}));
  const Change c = change(l, plan({"80-10.0.0.2:80"}), {"81"});
  EXPECT_TRUE(c.empty());
  ASSERT_EQ(c.names.size(), 2u);
  EXPECT_EQ(c.names[1].name, "81");
  EXPECT_EQ(c.names[1].row, 1u);
}

TEST(Change, RemainsOfAnInterruptedChangeGo) {
  const Plan p = plan({"80-10.0.0.2:80"});
  MirrorState l = state(p);
  NamedMapping nobody;
  nobody.row = 5;
  l.mappings.push_back({nobody, p.mappings[0]});
  PortRow stray = p.ports[0];
  stray.key.port.port = 99;
  stray.val.mapping = 5;
  l.ports.push_back(stray);
  const Change c = change(l, p);
  EXPECT_EQ(c.old_rows, std::vector<uint32_t>{5});
  ASSERT_EQ(c.old_ports.size(), 1u);
  EXPECT_EQ(c.old_ports[0].port.port, 99);
  EXPECT_TRUE(c.removed.empty());
}

TEST(Change, TooManyRowsForOldAndNewTogether) {
  std::vector<std::string> x, y;
  for (unsigned i = 0; i < 64; i++) {
    x.push_back(std::to_string(100 + i) + "-10.0.0.2:80");
    y.push_back(std::to_string(100 + i) + "-10.0.0.2:81");
  }
  const MirrorState l = state(plan(x));
  EXPECT_TRUE(change(l, plan(x)).empty());
  const auto c = plan_change(l, plan(y));
  ASSERT_FALSE(c);
  EXPECT_NE(c.errors()[0].what.find("no row is free"), std::string::npos);
}

TEST(Change, RoomForMappingsIsAtLeastWhatIsAskedFor) {
  Plan now = plan({"80-10.0.0.2:80"}), more = now;
  EXPECT_EQ(now.limits.max_mappings, 64u);
  now.limits.max_mappings = 70;
  EXPECT_TRUE(fixed_differences(state(now), more).empty()) << "there may be more";
  more.limits.max_mappings = 71;
  const Errors errors = fixed_differences(state(now), more);
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_EQ(errors[0].what, "is 70 in the attached mirror, and would be 71");
}

TEST(Change, ThereIsRoomForAllOfTheFile) {
  std::vector<std::string> x;
  for (unsigned i = 0; i < 70; i++)
    x.push_back(std::to_string(100 + i) + "-10.0.0.2:80");
  const Plan p = plan(x);
  EXPECT_EQ(p.limits.max_mappings, 70u);
  x.resize(60);
  const MirrorState l = state(p);
  EXPECT_TRUE(fixed_differences(l, plan(x)).empty());
  EXPECT_EQ(change(l, plan(x)).old_rows.size(), 10u);
}

TEST(Change, FixedSettingsAreNamed) {
  const Plan now = plan({"80-10.0.0.2:80"});
  EXPECT_TRUE(fixed_differences(state(now), now).empty());
  Config c = a_config({"80-10.0.0.2:80"});
  Limits &l = c.limits;
  l.flows++;
  l.port_last = 20000;
  l.store_bytes *= 2;
  l.flow_cap = 4u << 20;
  l.idle_s = 60;
  l.rto_min_ms++;
  l.rto_max_ms++;
  l.tries++;
  l.syn_tries++;
  l.backoff_ms++;
  l.keepalive_s++;
  l.embryonic++;
  l.max_mappings++;
  c.attach_mode = AttachMode::clsact;
  const Errors errors = fixed_differences(state(now), *make_plan(c, a_host()));
  EXPECT_EQ(errors.size(), 14u) << show_errors(errors);
  for (const Error &e : errors)
    EXPECT_NE(e.hint.find("doppel detach"), std::string::npos) << e.where;
}

HostView with_addresses() {
  HostView h = a_host();
  for (const char *a : {"10.0.0.4", "10.0.0.5", "10.0.0.6"})
    h.devices[1].addresses.push_back(ip(a));
  return h;
}

// Of one target, which lists these.
Plan plan_from(const std::vector<std::string> &addresses, const HostView &h = with_addresses()) {
  Config c = a_config({"80-10.0.0.2:80"});
  for (const std::string &a : addresses)
    c.mappings[0].targets[0].shadow_addresses.push_back({ip(a.c_str()), a});
  auto p = make_plan(c, h);
  EXPECT_TRUE(p) << show_errors(p.errors());
  return *p;
}

TEST(Change, AnotherListOfAddressesIsAnotherTarget) {
  const MirrorState before = state(plan_from({"10.0.0.4", "10.0.0.5"}));
  EXPECT_TRUE(change(before, plan_from({"10.0.0.4", "10.0.0.5"})).empty());
  EXPECT_TRUE(change(before, plan_from({"10.0.0.5", "10.0.0.4"})).empty()) << "in any order";
  const Change c = change(before, plan_from({"10.0.0.5"}));
  ASSERT_EQ(c.new_rows.size(), 1u);
  EXPECT_EQ(c.old_rows, std::vector<uint32_t>{0});
  const dp_target &t = c.new_rows[0].second.target[0];
  ASSERT_EQ(t.n_pools, 2);
  EXPECT_EQ(t.pool[1], 2) << "an address stays in its pool";
  EXPECT_TRUE(c.new_pools.empty());
}

TEST(Change, ARouteFromAnotherAddressIsTheSameTarget) {
  const MirrorState before = state(plan_from({"10.0.0.4"}));
  HostView h = with_addresses();
  h.routes["10.0.0.2"].source = ip("10.0.0.4");
  const Change c = change(before, plan_from({"10.0.0.4"}, h));
  EXPECT_TRUE(c.new_rows.empty());
  ASSERT_EQ(c.rows.size(), 1u);
  EXPECT_EQ(c.rows[0].second.target[0].pool[0], 1);
  h.routes["10.0.0.2"].source = ip("10.0.0.5");
  EXPECT_EQ(change(before, plan_from({"10.0.0.4"}, h)).rows[0].second.target[0].pool[0], 0);
}

// What is answered to the address leads to its pool, listed or not.
TEST(Change, ARouteFromAnAddressThatIsListedNoMore) {
  const MirrorState before = state(plan_from({"10.0.0.4"}));
  HostView h = with_addresses();
  h.routes["10.0.0.2"].source = ip("10.0.0.4");
  const Change c = change(before, plan_from({}, h));
  ASSERT_EQ(c.new_rows.size(), 1u);
  const dp_target &t = c.new_rows[0].second.target[0];
  EXPECT_EQ(t.n_pools, 1);
  EXPECT_EQ(t.pool[0], 1);
  // Nor is the pool given to another address, though nobody lists it.
  const auto other = plan_change(before, plan_from({"10.0.0.6"}, h));
  ASSERT_FALSE(other);
  EXPECT_EQ(other.errors()[0].where, "shadow_addresses");
}

TEST(Change, APoolIsReusedWhenNobodyNamesIt) {
  // Nobody lists 10.0.0.4 any more, which has the first pool.
  MirrorState now = state(plan_from({"10.0.0.4", "10.0.0.5"}));
  now.mappings[0].row.target[0].n_pools = 2;
  now.mappings[0].row.target[0].pool[1] = 2;
  now.mappings[0].row.target[0].pool[2] = 0;
  const Change c = change(now, plan_from({"10.0.0.5", "10.0.0.6"}));
  ASSERT_EQ(c.new_pools.size(), 1u);
  EXPECT_EQ(c.new_pools[0].first, 1u);
  EXPECT_EQ(c.new_pools[0].second, ip("10.0.0.6"));
  EXPECT_EQ(c.new_rows[0].second.target[0].pool[1], 1);
  EXPECT_EQ(c.new_rows[0].second.target[0].pool[2], 2);
  now.pools[1].taken = 1;
  EXPECT_FALSE(plan_change(now, plan_from({"10.0.0.5", "10.0.0.6"}))) << "it is still in use";
}

TEST(Change, AddressesWithoutRoomAreNamed) {
  const MirrorState one = state(plan_from({}));
  const Errors none = fixed_differences(one, plan_from({"10.0.0.4"}));
  ASSERT_EQ(none.size(), 1u);
  EXPECT_EQ(none[0].where, "shadow_addresses");
  EXPECT_EQ(none[0].what, "the attached mirror has shadow ports for 0 of them, and none are left "
                          "for 10.0.0.4");
  EXPECT_TRUE(are_fixed_differences(none));
  // Those of before are named until they are drained.
  const MirrorState two = state(plan_from({"10.0.0.4"}));
  const auto both = plan_change(two, plan_from({"10.0.0.5", "10.0.0.6"}));
  ASSERT_FALSE(both);
  EXPECT_EQ(both.errors().size(), 2u);
  EXPECT_NE(both.errors()[0].hint.find("by a reload of its own first"), std::string::npos);
}

// Connections of the range that all share have its ports already.
TEST(Change, AnAddressOfARouteGetsNoPoolWhileAttached) {
  MirrorState now = state(plan_from({"10.0.0.4"}));
  now.mappings[0].row.target[0].n_pools = 1;
  now.mappings[0].row.target[0].pool[1] = 0;
  HostView h = with_addresses();
  h.routes["10.0.0.2"].source = ip("10.0.0.5");
  const auto refused = plan_change(now, plan_from({"10.0.0.1"}, h));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.errors()[0].what, "mapping \"80\" has copies from 10.0.0.1 in the attached "
                                      "mirror, as the route says");
}

// A container's device is nobody's any more, whatever another mapping waits for.
TEST(PartialPlan, ADeviceThatIsGoneIsOnlyLeftToWhoNamesIt) {
  Config c = a_config({"80-10.0.0.2:80", "81-10.0.0.3:81"});
  c.mappings[0].devices = {"eth0", "veth*"};
  c.mappings[1].devices = {"late0"};
  HostView h = a_host();
  h.devices.push_back(a_device(8, "late0"));
  h.devices.push_back(a_device(9, "veth9"));
  MirrorState now = state(*make_plan(c, h));
  h.devices.erase(h.devices.end() - 2, h.devices.end());
  now.running.erase(std::remove_if(now.running.begin(), now.running.end(),
                                   [](const Attachment &a) { return a.ifindex >= 8; }),
                    now.running.end());
  const auto p = make_partial_plan(c, h);
  ASSERT_TRUE(p) << show_errors(p.errors());
  ASSERT_EQ(p->deferred, std::set<std::string>{"81"});
  EXPECT_EQ(hooks(change(now, p->plan, p->deferred).detach), Strings{"doppel_ingress@9"});
}

// The address comes back, and its mapping with it; the room was made at attach.
TEST(PartialPlan, HasRoomForAddressesOfWhatItLeavesOut) {
  Config c = a_config({"80-10.0.0.2:80", "81-10.9.0.2:81"});
  c.mappings[0].targets[0].shadow_addresses = {{ip("10.0.0.4"), "a"}};
  c.mappings[1].targets[0].shadow_addresses = {{ip("10.0.0.77"), "b"}};
  const auto partial = make_partial_plan(c, with_addresses());
  ASSERT_TRUE(partial) << show_errors(partial.errors());
  EXPECT_EQ(partial->deferred, std::set<std::string>{"81"});
  EXPECT_EQ(partial->plan.pools, (std::vector<Address>{{}, ip("10.0.0.4"), ip("10.0.0.77")}));
  EXPECT_EQ(partial->plan.config.slots, 3 * partial->plan.config.ports);
  HostView h = with_addresses();
  h.devices[2].addresses.push_back(ip("10.0.0.77"));
  const MirrorState now = state(partial->plan);
  EXPECT_TRUE(fixed_differences(now, *make_plan(c, h)).empty());
  EXPECT_EQ(change(now, *make_plan(c, h)).added, std::vector<std::string>{"81"});
}

// The address by which another mapping's copies leave is one that a mapping lists that is left out.
TEST(PartialPlan, LeadsAnswersToTheSlotsOfTheirAddress) {
  Config c = a_config({"80-10.0.0.2:80", "81-10.9.0.2:81"});
  c.mappings[1].targets[0].shadow_addresses = {{ip("10.0.0.1"), "b"}};
  HostView h = a_host();
  const auto whole = make_plan(c, h);
  ASSERT_TRUE(whole) << show_errors(whole.errors());
  h.routes.erase("10.9.0.2");
  const auto partial = make_partial_plan(c, h);
  ASSERT_TRUE(partial) << show_errors(partial.errors());
  EXPECT_EQ(partial->deferred, std::set<std::string>{"81"});
  EXPECT_EQ(partial->plan.mappings[0].target[0].pool[0], 1);
  EXPECT_TRUE(change(state(*whole), partial->plan, partial->deferred).empty());
  c.mappings[0].targets[0].keep_client = true;
  EXPECT_EQ(make_partial_plan(c, h)->deferred, (std::set<std::string>{"80", "81"}));
}

TEST(PartialPlan, LeavesOutWhatTheHostCannotCarry) {
  Config c = a_config({"80-10.0.0.2:80", "81-10.9.0.2:81", "82-10.0.0.3:82"});
  c.mappings[2].devices = {"gone0"};
  HostView h = a_host();
  h.routes.erase("10.9.0.2");
  const auto f = make_partial_plan(c, h);
  ASSERT_TRUE(f) << show_errors(f.errors());
  EXPECT_EQ(f->deferred, (std::set<std::string>{"81", "82"}));
  EXPECT_EQ(f->why.size(), 2u);
  ASSERT_EQ(f->plan.names.size(), 1u);
  EXPECT_EQ(f->plan.names[0].name, "80");
}

// The others are followed, and the program that hears what it answers stays.
TEST(PartialPlan, ATargetWithoutARouteIsHeld) {
  Config c = a_config({"80-10.0.0.2:80"});
  c.mappings[0].targets.push_back(c.mappings[0].targets[0]);
  c.mappings[0].targets[1].address = ip("10.9.0.2");
  HostView h = a_host();
  MirrorState now = state(*make_plan(c, h));
  const dp_target first = now.mappings[0].row.target[0], second = now.mappings[0].row.target[1];
  const Route lost = h.routes["10.9.0.2"];
  h.routes.erase("10.9.0.2");
  h.routes["10.0.0.2"].mtu = 1300;
  const auto p = make_partial_plan(c, h, now.mappings);
  ASSERT_TRUE(p) << show_errors(p.errors());
  EXPECT_TRUE(p->deferred.empty());
  ASSERT_EQ(p->why.size(), 1u);
  EXPECT_EQ(p->why[0].what, "this host has no route to the target 10.9.0.2");
  const Change d = change(now, p->plan);
  EXPECT_EQ(to_text(d),
            "1 mapping; mapping 80: target 10.0.0.2 is reached from 10.0.0.1, MTU 1300; "
            "target 10.9.0.2 has no route: nothing is sent to it");
  ASSERT_EQ(d.rows.size(), 1u);
  dp_target held = second;
  held.oif = DP_NO_DEVICE;
  EXPECT_EQ(std::memcmp(&d.rows[0].second.target[1], &held, sizeof(held)), 0);
  EXPECT_NE(std::memcmp(&d.rows[0].second.target[0], &first, sizeof(first)), 0);
  now.mappings[0].row = d.rows[0].second;
  EXPECT_TRUE(change(now, make_partial_plan(c, h, now.mappings)->plan).empty());
  h.routes["10.9.0.2"] = lost;
  const auto back = make_partial_plan(c, h, now.mappings);
  EXPECT_TRUE(back->why.empty());
  EXPECT_EQ(to_text(change(now, back->plan)),
            "1 mapping; mapping 80: target 10.9.0.2 is reached again from 10.9.0.1, MTU 9000");
}

// There is one, and copies cannot take it: they go as before.
TEST(PartialPlan, ATargetWithoutAnAddressTowardItIsHeld) {
  const Config c = a_config({"80-10.9.0.2:80"});
  HostView h = a_host();
  const MirrorState now = state(*make_plan(c, h));
  h.routes["10.9.0.2"].source = {};
  h.devices.push_back(a_device(8, "late0"));
  const auto p = make_partial_plan(c, h, now.mappings);
  ASSERT_TRUE(p) << show_errors(p.errors());
  EXPECT_TRUE(p->deferred.empty());
  EXPECT_EQ(p->why.size(), 1u);
  EXPECT_TRUE(change(now, p->plan).empty());
  Config other = a_config({"80-10.9.0.2:80", "81-10.9.0.2:81"});
  const auto both = make_partial_plan(other, h, now.mappings);
  EXPECT_EQ(both->deferred, std::set<std::string>{"81"}) << "it begins with a route of its own";
  EXPECT_TRUE(change(now, both->plan, both->deferred).empty());
  EXPECT_FALSE(make_whole_plan(other, h, now.mappings));
  EXPECT_TRUE(change(now, make_whole_plan(c, h, now.mappings)->plan).empty());
  other = c;
  other.mappings[0].targets[0].preamble = "AUTH x\r\n";
  EXPECT_EQ(make_partial_plan(other, h, now.mappings)->deferred, std::set<std::string>{"80"})
      << "it would begin anew";
  EXPECT_EQ(make_partial_plan(c, h)->deferred, std::set<std::string>{"80"}) << "never attached";
}

TEST(PartialPlan, NothingIsLeft) {
  HostView h = a_host();
  h.devices.clear();
  const auto f = make_partial_plan(a_config({"80-10.0.0.2:80"}), h);
  ASSERT_TRUE(f);
  EXPECT_TRUE(f->plan.mappings.empty());
  EXPECT_EQ(f->deferred.size(), 1u);
}

} // namespace
} // namespace doppel
