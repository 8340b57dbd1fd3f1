// SPDX-License-Identifier: Apache-2.0
// Which flows the keeper takes for ended by the source: rows of the flow table made by hand, real
// sockets, and the real data plane that is asked to end them.
#include "userspace/keeper/source_ends.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <netinet/in.h>
#include <unistd.h>

#include "tests/host/host.h"
#include "tests/host/sockets.h"
#include "userspace/kernel/host_net.h"
#include "userspace/kernel/pins.h"
#include "userspace/mirror/meta.h"

namespace doppel::hosttest {
class SourceEnd : public Host {
protected:
  void start(dp_direction direction = DP_DIR_INGRESS, bool promiscuous = false) {
    Config c = config(AttachMode::automatic, direction);
    c.mappings[0].any_host = promiscuous;
    auto done = attach(plan(c), c);
    ASSERT_TRUE(done) << text(done.errors());
    auto pins = Pins::locate();
    ASSERT_TRUE(pins);
    auto meta = read_meta(*pins);
    ASSERT_TRUE(meta);
    mappings_ = meta->mappings;
    auto ends = SourceEnds::open(*pins);
    ASSERT_TRUE(ends) << text(ends.errors());
    ends_.emplace(std::move(*ends));
    flows_ = open_pin(pins->map("flows"));
    ASSERT_TRUE(flows_);
  }

  void sweep() {
    for (;;) {
      auto more = ends_->step(mappings_);
      ASSERT_TRUE(more) << text(more.errors());
      if (!*more)
        return;
    }
  }

  // A flow that waits, and was silent since the host was booted.
  dp_flow_key enter(uint16_t client_port, uint16_t server_port = 11211,
                    const char *server = "10.9.0.1") {
    dp_flow_key key{};
    key.client = kHere.raw;
    key.client_port = htons(client_port);
    key.server = parse_address(server)->raw;
    key.server_port = htons(server_port);
    put(key, 0);
    return key;
  }

  void put(const dp_flow_key &key, uint32_t gen) {
    dp_flow flow{};
    flow.slot = DP_NO_SLOT;
    flow.gen = gen;
    ASSERT_EQ(bpf_map_update_elem(flows_.get(), &key, &flow, BPF_ANY), 0);
  }

  bool is_there(const dp_flow_key &key) const {
    dp_flow flow{};
    return bpf_map_lookup_elem(flows_.get(), &key, &flow) == 0;
  }

  uint64_t counted() const {
    auto c = read_counters();
    EXPECT_TRUE(c) << text(c.errors());
    return c->mappings[0].targets[0].sum.event[DP_EVENT_source_gone];
  }

  std::vector<NamedMapping> mappings_;
  std::optional<SourceEnds> ends_;
  Fd flows_;
};

TEST_F(SourceEnd, TwoSweepsWithoutASocketEndAFlow) {
  start();
  Fd l = listener(11211);
  Pair p = connected(l);
  const dp_flow_key lives = enter(port_of(p.client.get())), dead = enter(1);
  sweep();
  EXPECT_TRUE(is_there(dead)) << "the socket may have come after the list";
  sweep();
  EXPECT_FALSE(is_there(dead));
  EXPECT_TRUE(is_there(lives));
  EXPECT_EQ(counted(), 1u);
  p.server = Fd();
  p.client = Fd();
  EXPECT_TRUE(soon([&] {
    sweep();
    return !is_there(lives);
  }));
  EXPECT_EQ(counted(), 2u);
}

TEST_F(SourceEnd, TheClientsSocketOfThisHostIsNotTheServers) {
  start();
  Fd l = listener(11211);
  Pair p = connected(l);
  const dp_flow_key key = enter(port_of(p.client.get()));
  sweep();
  p.server = Fd(); // the client's stays, in CLOSE-WAIT
  EXPECT_TRUE(soon([&] {
    sweep();
    return !is_there(key);
  }));
}

TEST_F(SourceEnd, ANewConversationOfTheSameEndsBeginsAnew) {
  start();
  const dp_flow_key key = enter(1);
  sweep();
  put(key, 1);
  sweep();
  EXPECT_TRUE(is_there(key));
  sweep();
  EXPECT_FALSE(is_there(key));
}

TEST_F(SourceEnd, WhatIsForwardedIsLeftAlone) {
  start();
  const dp_flow_key key = enter(1, 11211, "10.9.0.200");
  for (int i = 0; i < 4; i++)
    sweep();
  EXPECT_TRUE(is_there(key));
  EXPECT_EQ(counted(), 0u);
}

// Both end in the same 32 bits.
TEST_F(SourceEnd, AnAddressOfIPv6IsThisHostsOrNot) {
  if (::access("/proc/sys/net/ipv6", F_OK))
    GTEST_SKIP() << "this kernel has no IPv6";
  sh("ip addr add 2001:db8:9::1/64 dev svc0 nodad");
  start();
  const dp_flow_key ours = enter(1, 11211, "2001:db8:9::1"),
                    forwarded = enter(2, 11211, "2001:db8:77::1");
  for (int i = 0; i < 4; i++)
    sweep();
  EXPECT_FALSE(is_there(ours));
  EXPECT_TRUE(is_there(forwarded));
}

TEST_F(SourceEnd, WhatGetsAnotherDestinationIsLeftAlone) {
  sh("nft 'add table ip t; add chain ip t out { type nat hook output priority -100; }; "
     "add rule ip t out tcp dport 11211 redirect to :80'");
  start();
  Fd l = listener(80);
  Pair p{dial(11211), Fd(::accept4(l.get(), nullptr, nullptr, SOCK_CLOEXEC))};
  const dp_flow_key key = enter(port_of(p.client.get())), dead = enter(1);
  for (int i = 0; i < 4; i++)
    sweep();
  EXPECT_TRUE(is_there(key));
  EXPECT_FALSE(is_there(dead));
}

TEST_F(SourceEnd, AMirrorPortIsLeftAlone) {
  start(DP_DIR_INGRESS, true);
  const dp_flow_key key = enter(1);
  for (int i = 0; i < 4; i++)
    sweep();
  EXPECT_TRUE(is_there(key));
}

TEST_F(SourceEnd, OnAClientHostOnlyWhatHadASocket) {
  start(DP_DIR_EGRESS);
  Fd l = listener(11211);
  Pair p = connected(l);
  const dp_flow_key had = enter(port_of(p.client.get())), never = enter(1);
  sweep();
  sweep();
  EXPECT_TRUE(is_there(had));
  p.server = Fd();
  p.client = Fd();
  EXPECT_TRUE(soon([&] {
    sweep();
    return !is_there(had);
  }));
  EXPECT_TRUE(is_there(never)) << "of a container, say";
}

} // namespace doppel::hosttest
