// SPDX-License-Identifier: Apache-2.0
// What a data plane says of itself: ledger, flows, host view, probe.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>

#include "tests/host/host.h"
#include "userspace/keeper/unjoinable.h"
#include "userspace/kernel/host_net.h"
#include "userspace/kernel/neighbours.h"
#include "userspace/kernel/netns.h"
#include "userspace/mirror/maps.h"

namespace doppel::hosttest {
class Reading : public Host {
protected:
  void SetUp() override {
    Host::SetUp();
    Config c = config(AttachMode::automatic);
    auto done = attach(plan(c), c);
    ASSERT_TRUE(done) << text(done.errors());
  }

  int map(const std::string &name) {
    fds_.push_back(open_pin(own_pins() + "/maps/" + name));
    EXPECT_TRUE(fds_.back()) << name;
    return fds_.back().get();
  }

  void write_cell(uint32_t index, const std::vector<dp_ledger> &per_cpu) {
    std::vector<dp_ledger> all(static_cast<size_t>(libbpf_num_possible_cpus()));
    std::copy_n(per_cpu.begin(), std::min(per_cpu.size(), all.size()), all.begin());
    ASSERT_EQ(bpf_map_update_elem(map("ledger"), &index, all.data(), BPF_ANY), 0);
  }

  std::vector<Fd> fds_;
};

TEST_F(Reading, CountersAreSumsOverCpus) {
  if (libbpf_num_possible_cpus() < 2)
    GTEST_SKIP() << "one CPU: nothing to add up";
  dp_ledger a{}, b{};
  a.last.taken = 5, b.last.taken = 3, b.last.lost[DP_LOST_store_full] = 9;
  a.observed = 100, a.in_flight = 100, a.slots = 3, a.begin = a.end = 7;
  b.delivered = 60, b.in_flight = -60, b.slots = -1, b.begin = b.end = 9;
  b.lost[DP_LOST_store_full] = 1, b.in_flight -= 1;
  write_cell(dp_ledger_cell(0, 0), {a, b});
  const uint32_t zero = 0;
  dp_fresh store{};
  ASSERT_EQ(bpf_map_lookup_elem(map("fresh_chunks"), &zero, &store), 0);
  store.used = 3;
  ASSERT_EQ(bpf_map_update_elem(map("fresh_chunks"), &zero, &store, BPF_ANY), 0);
  auto c = read_counters();
  ASSERT_TRUE(c) << text(c.errors());
  ASSERT_EQ(c->mappings.size(), 1u);
  EXPECT_EQ(c->mappings[0].name, "data");
  EXPECT_EQ(c->mappings[0].targets[0].target, "10.9.0.2:21211");
  const dp_ledger &sum = c->mappings[0].targets[0].sum;
  EXPECT_EQ(sum.observed, 100u);
  EXPECT_EQ(sum.delivered, 60u);
  EXPECT_EQ(sum.in_flight, 39);
  EXPECT_EQ(sum.lost[DP_LOST_store_full], 1u);
  EXPECT_EQ(sum.last.taken, 5u) << "the latest, no sum";
  EXPECT_EQ(sum.last.lost[DP_LOST_store_full], 9u);
  EXPECT_EQ(c->ports, 64u);
  EXPECT_EQ(c->ports_free, 62u);
  EXPECT_EQ(c->chunks_used, 3u);
}

TEST_F(Reading, UnjoinableIsToldOnce) {
  const auto cell = [](uint64_t bytes) {
    dp_ledger l{};
    l.observed = l.excluded[DP_EXCLUDED_unjoinable] = bytes;
    return l;
  };
  auto pins = Pins::locate();
  ASSERT_TRUE(pins);
  auto meta = read_meta(*pins);
  ASSERT_TRUE(meta);
  write_cell(dp_ledger_cell(0, 0), {cell(100)}); // told by the keeper before
  auto u = Unjoinable::open(*pins, meta->mappings);
  ASSERT_TRUE(u) << text(u.errors());
  const auto news = [&] {
    auto n = u->news(meta->mappings);
    EXPECT_TRUE(n) << text(n.errors());
    return *n;
  };
  EXPECT_TRUE(news().empty());
  write_cell(dp_ledger_cell(0, 0), {cell(101)});
  const auto told = news();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_NE(told[0].find("mapping data:"), std::string::npos) << told[0];
  EXPECT_NE(told[0].find("\"join\": \"never\""), std::string::npos) << told[0];
  write_cell(dp_ledger_cell(0, 0), {cell(5000)});
  EXPECT_TRUE(news().empty());
}

TEST_F(Reading, CellInTransactionIsNotBelieved) {
  dp_ledger open{};
  open.begin = 1; // raised before a transaction, and `end` never after it
  write_cell(dp_ledger_cell(0, 0), {open});
  auto c = read_counters();
  ASSERT_FALSE(c);
  EXPECT_NE(text(c.errors()).find("never came to rest"), std::string::npos);
  write_cell(dp_ledger_cell(0, 0), {});
}

TEST_F(Reading, FlowsJoinTheirShadows) {
  dp_flow_key key{};
  key.client.w[2] = key.server.w[2] = htonl(0xffff);
  key.client.w[3] = htonl(0x0a090032);
  key.server.w[3] = htonl(0x0a090001);
  key.client_port = htons(4711);
  key.server_port = htons(11211);
  dp_flow flow{};
  flow.slot = 5;
  flow.gen = 3;
  ASSERT_EQ(bpf_map_update_elem(map("flows"), &key, &flow, BPF_ANY), 0);
  dp_shadow s{};
  s.gen = 3;
  s.ep.key = key;
  s.ep.address = s.ep.shadow_addr = key.server;
  s.ep.address.w[3] = htonl(0x0a090002);
  s.ep.target_port = htons(21211);
  s.ep.shadow_port = htons(20005);
  s.tcp.state = DP_ESTABLISHED;
  s.tcp.flags = DP_SH_JOINED;
  s.tcp.isn = 0xfffffff0; // the stream wraps
  s.tcp.una = 0xfffffff1, s.tcp.nxt = 4, s.tcp.end = 10;
  s.tcp.ahead = 25; // beyond a hole: not in flight
  s.tcp.cwnd = 14480, s.tcp.ssthresh = 28960;
  s.tcp.wnd = 1000, s.tcp.srtt_us = 800, s.tcp.observed = 30, s.tcp.delivered = 1;
  uint32_t slot = 5;
  ASSERT_EQ(bpf_map_update_elem(map("shadows"), &slot, &s, BPF_ANY), 0);
  key.client_port = htons(4712);
  flow.slot = DP_NO_SLOT;
  flow.excluded = DP_EXCLUDED_not_joined;
  ASSERT_EQ(bpf_map_update_elem(map("flows"), &key, &flow, BPF_ANY), 0);

  FlowWords words;
  words.sort = "client";
  const auto list = read_flows(*parse_flow_query(words));
  ASSERT_TRUE(list) << text(list.errors());
  ASSERT_EQ(list->rows().size(), 2u);
  const FlowRow &open = list->rows()[0], &waiting = list->rows()[1];
  EXPECT_EQ(open.client.text(), "10.9.0.50:4711");
  EXPECT_EQ(open.server.text(), "10.9.0.1:11211");
  EXPECT_EQ(open.target.text(), "10.9.0.2:21211");
  EXPECT_EQ(open.shadow.text(), "10.9.0.1:20005");
  EXPECT_EQ(open.state, "ESTABLISHED");
  EXPECT_TRUE(open.joined);
  EXPECT_EQ(open.in_flight, 25u);
  EXPECT_EQ(open.waiting_to_send, 6u);
  EXPECT_EQ(open.srtt_us, 100u);
  EXPECT_EQ(open.window, 1000u);
  EXPECT_EQ(open.cwnd, 14480u);
  EXPECT_EQ(open.ssthresh, 28960u);
  EXPECT_EQ(waiting.state, "WAITING");
  EXPECT_EQ(waiting.reason, "not_joined");
  EXPECT_EQ(waiting.target.text(), "10.9.0.2:21211");
  EXPECT_FALSE(waiting.shadow.is_set());
  words.mapping = "dota";
  EXPECT_NE(text(read_flows(*parse_flow_query(words)).errors()).find("did you mean \"data\"?"),
            std::string::npos);

  // Not a shadow of the data plane's making: take it away before anything is drained.
  s.tcp.state = DP_CLOSED;
  ASSERT_EQ(bpf_map_update_elem(map("shadows"), &slot, &s, BPF_ANY), 0);
}

TEST_F(Reading, EveryFlowIsListedOnce) {
  dp_flow_key key{};
  dp_flow flow{};
  flow.slot = DP_NO_SLOT;
  for (uint32_t i = 0; i < 1000; i++) {
    key.client.w[3] = i;
    ASSERT_EQ(bpf_map_update_elem(map("flows"), &key, &flow, BPF_ANY), 0);
    fds_.clear();
  }
  const auto list = read_flows();
  ASSERT_TRUE(list);
  EXPECT_EQ(list->rows().size(), 1000u);
}

TEST_F(Reading, FreeSlotsAreAllThere) {
  uint32_t pool = 0, id = 0;
  ASSERT_EQ(bpf_map_lookup_elem(map("free_slots"), &pool, &id), 0);
  const Fd queue(bpf_map_get_fd_by_id(id));
  const int fd = queue.get();
  std::vector<bool> seen(64);
  uint32_t slot = 0;
  for (unsigned i = 0; i < 64; i++) {
    ASSERT_EQ(bpf_map_lookup_and_delete_elem(fd, nullptr, &slot), 0);
    ASSERT_LT(slot, 64u);
    EXPECT_FALSE(seen[slot]);
    seen[slot] = true;
  }
  EXPECT_NE(bpf_map_lookup_and_delete_elem(fd, nullptr, &slot), 0);
}

TEST_F(Host, NothingAttached) {
  for (const std::string &e : {text(read_counters().errors()), text(read_flows().errors())}) {
    EXPECT_NE(e.find("nothing is attached"), std::string::npos);
    EXPECT_NE(e.find("doppel attach"), std::string::npos);
  }
  auto status = read_status();
  ASSERT_TRUE(status);
  EXPECT_FALSE(status->attached);
  EXPECT_TRUE(status->warnings.empty());
}

TEST_F(Host, RoutesAsTheKernelSeesThem) {
  sh("ip route add 10.20.0.0/16 via 10.9.0.2 mtu 1400");
  sh("ip route add blackhole 10.30.0.0/16");
  Config c = config(AttachMode::automatic);
  auto target = [&](const char *address) {
    TargetConfig t = c.mappings[0].targets[0];
    t.address = *parse_address(address);
    c.mappings[0].targets.push_back(t);
  };
  for (const char *a : {"10.20.1.1", "10.30.1.1", "192.0.2.1", "10.9.0.1"})
    target(a);
  auto view = view_host(c);
  ASSERT_TRUE(view) << text(view.errors());
  const Route &direct = view->routes.at("10.9.0.2");
  EXPECT_EQ(direct.device, "svc0");
  EXPECT_EQ(direct.source.text(), "10.9.0.1");
  EXPECT_FALSE(direct.gateway.is_v4());
  EXPECT_EQ(direct.mtu, 1500u);
  const Route &far = view->routes.at("10.20.1.1");
  EXPECT_EQ(far.gateway.text(), "10.9.0.2");
  EXPECT_EQ(far.mtu, 1400u);
  EXPECT_EQ(view->routes.count("10.30.1.1"), 0u);
  EXPECT_EQ(view->routes.count("192.0.2.1"), 0u);
  EXPECT_TRUE(view->routes.at("10.9.0.1").local);
}

TEST_F(Host, UnansweredNeighbourIsAWarning) {
  sh("ip neigh del 10.9.0.2 dev svc0");
  Config c = config(AttachMode::automatic);
  auto attached = attach(plan(c), c);
  ASSERT_TRUE(attached) << text(attached.errors());
  ASSERT_EQ(attached->neighbours.size(), 1u);
  EXPECT_TRUE(attached->hooks.empty());
  EXPECT_NE(attached->neighbours.front().find("neighbour 10.9.0.2 on svc0"), std::string::npos);
}

// NTF_USE on an entry that is there already would take its permanence away.
TEST_F(Host, PermanentNeighbourStaysPermanent) {
  Config c = config(AttachMode::automatic);
  auto attached = attach(plan(c), c);
  ASSERT_TRUE(attached) << text(attached.errors());
  EXPECT_TRUE(attached->hooks.empty());
  EXPECT_TRUE(attached->neighbours.empty());
  EXPECT_NE(sh("ip neigh show 10.9.0.2 dev svc0").find("PERMANENT"), std::string::npos);
}

TEST_F(Host, ProbeFindsThisKernelAble) {
  const std::string before = footprint();
  for (const ProbeRow &row : probe_host())
    EXPECT_TRUE(row.ok || !row.needed) << row.feature << ": " << row.detail;
  EXPECT_EQ(footprint(), before);
}

} // namespace doppel::hosttest
