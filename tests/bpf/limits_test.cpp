// SPDX-License-Identifier: Apache-2.0
// What happens when something is full: each limit has its reason, and no original notices
// (docs/design.md, Accounting).
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

// Room for little of everything.
class Tight : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.limits.port_last = c.limits.port_first + 1; // two shadows
    c.limits.flow_cap = 16384;
    c.limits.store_bytes = 16 * DP_CHUNK;
    return c;
  }
  // Up to so many segments of 1400 bytes, until one makes the shadow send something: the bytes of
  // those before it.
  int64_t taken_until_broken(int most, Frames &sent) {
    int64_t taken = 0;
    for (int i = 0; i < most && sent.empty(); i++) {
      sent = capture(client_.data(filler(1400)));
      if (sent.empty())
        taken += 1400;
    }
    return taken;
  }
};
DOPPEL_ALL_MODES(Tight);

TEST_P(Tight, PortsExhausted) {
  for (int i = 0; i < 2; i++) {
    open();
    next_client();
  }
  mark();
  capture(client_.syn()).none();
  capture(client_.ack()).none();
  capture(client_.data(kGet)).none();
  expect_account({{"excluded.ports_exhausted", 7}, {"observed", 7}});
  expect_flows({{"waiting", 1}});
  // Its first segment again: no new connection, and nothing new.
  capture(client_.segment(client_.next - 7, PSH, kGet)).none();
  expect_account({{"excluded.ports_exhausted", 7}, {"observed", 7}});
  capture(client_.fin()).none();
}

TEST_P(Tight, PortComesBackAfterAClose) {
  for (int i = 0; i < 5; i++) {
    SCOPED_TRACE(i);
    open();
    ASSERT_FALSE(HasFatalFailure());
    deliver(capture(client_.fin()));
    consumed(target_.fin());
    next_client();
  }
}

TEST_P(Tight, FlowCap) {
  open();
  target_.window = 0;
  consumed(target_.ack());
  mark();
  Frames sent;
  const int64_t taken = taken_until_broken(20, sent);
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_TRUE(sent[0].has(RST));
  EXPECT_LE(taken, 16384);
  EXPECT_GT(taken, 16384 - 1400);
  EXPECT_EQ(moved()["lost.flow_cap"], taken);
  EXPECT_EQ(moved()["excluded.backoff"], 1400) << "what did not fit was never taken";
  EXPECT_EQ(moved()["observed"], taken + 1400);
  EXPECT_EQ(moved()["broken"], 1);
  EXPECT_EQ(new_store_entries(), 0);
}

TEST_P(Tight, FlowCapOutOfOrder) {
  // Of a stream that goes beyond the cap, a segment ahead of its turn: all of it is observed once.
  open();
  mark();
  const uint32_t seq = client_.next;
  const Frames sent = capture(client_.segment(seq + 16000, PSH, filler(1000)));
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_TRUE(sent[0].has(RST));
  capture(client_.segment(seq, PSH, filler(1000))).none();
  client_.next = seq + 17000;
  capture(client_.data(kGet)).none();
  expect_account({{"excluded.backoff", 17007}, {"observed", 17007}});
}

TEST_P(Tight, SilentFlowIsForgotten) {
  open();
  deliver(capture(client_.data(kGet)));
  consumed(target_.ack());
  mark();
  plane().expire(client_, 3600); // not yet
  EXPECT_EQ(collect().sent.size(), 0u);
  plane().expire(client_, 0);
  const Frames sent = collect().sent;
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_TRUE(sent[0].has(FIN));
  deliver(sent);
  consumed(target_.fin());
  expect_account({{"event.idle", 1}});
  expect_flows({{"closed", 1}, {"open", -1}, {"slots", -1}});
  // It was not gone after all: a flow like any other that is older than its shadow.
  mark();
  ASSERT_EQ(capture(client_.data(kGet)).size(), 1u);
  expect_flows({{"joined", 1}, {"open", 1}, {"slots", 1}});
}

TEST_P(Tight, SilentFlowWithAHoleGivesEverythingBack) {
  // Its FIN came, and what is before it never will.
  open();
  const uint32_t seq = client_.next;
  for (unsigned at = 5000; at < 9000; at += 1000)
    capture(client_.segment(seq + at, PSH, filler(1000))).none();
  capture(client_.segment(seq + 9000, FIN)).none();
  EXPECT_GT(new_store_entries(), 1);
  mark();
  plane().expire(client_, 0);
  const Frames sent = collect().sent;
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_TRUE(sent[0].has(FIN));
  deliver(sent);
  consumed(target_.fin());
  expect_account({{"event.idle", 1}});
  expect_flows({{"closed", 1}, {"open", -1}, {"slots", -1}});
  EXPECT_EQ(new_store_entries(), 0);
  EXPECT_EQ(new_flow_entries(), 0);
}

TEST_P(Tight, FlowThatTheSourceEndedSendsWhatItHolds) {
  target_.window = 0;
  open();
  consumed(target_.ack());
  capture(client_.data(kGet)).none();
  const uint32_t seq = client_.next;
  capture(client_.segment(seq + 1000, PSH, filler(1000))).none(); // behind a hole for good
  mark();
  plane().expire(client_, 3600, DP_CMD_SOURCE_GONE); // heard of just now: another one's
  EXPECT_EQ(collect().sent.size(), 0u);
  EXPECT_EQ(new_flow_entries(), 1);
  plane().expire(client_, 0, DP_CMD_SOURCE_GONE);
  EXPECT_EQ(collect().sent.size(), 0u) << "the target takes nothing now";
  EXPECT_EQ(new_flow_entries(), 0);
  expect_account({{"event.source_gone", 1}});
  mark();
  target_.window = 65535;
  const Frames sent = consumed(target_.ack());
  ASSERT_GE(sent.size(), 1u) << sent.text();
  deliver(sent);
  consumed(target_.ack());
  consumed(target_.fin());
  EXPECT_EQ(moved()["delivered"], 7);
  expect_flows({{"closed", 1}, {"open", -1}, {"slots", -1}});
}

TEST_P(Tight, FlowWithoutAShadowThatTheSourceEnded) {
  mark();
  capture(client_.data("x")).none(); // older than the mirror, and no command
  EXPECT_EQ(new_flow_entries(), 1);
  plane().expire(client_, 0, DP_CMD_SOURCE_GONE);
  EXPECT_EQ(collect().sent.size(), 0u);
  EXPECT_EQ(moved()["event.source_gone"], 1);
  EXPECT_EQ(moved()["waiting"], 0);
  EXPECT_EQ(new_flow_entries(), 0);
}

TEST_P(Tight, StoreFull) {
  // Chunks are shared by all flows: neither is over its cap, but both together are too much. The
  // one that holds most breaks, and what asked for room is stored.
  target_.window = 0;
  open();
  consumed(target_.ack());
  for (int i = 0; i < 11; i++)
    capture(client_.data(filler(1400))).none();
  const Target first_target = target_;
  next_client();
  target_.window = 0;
  open();
  consumed(target_.ack());
  mark();
  Frames sent;
  int64_t taken = taken_until_broken(11, sent);
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_TRUE(sent[0].has(RST));
  EXPECT_EQ(sent[0].sport, first_target.shadow_port);
  taken += 1400;
  EXPECT_EQ(moved()["lost.store_full"], 15400);
  EXPECT_EQ(moved()["excluded.backoff"], 0);
  EXPECT_EQ(moved()["observed"], taken);
  EXPECT_EQ(moved()["broken"], 1);
  // The other flow keeps what it had.
  target_.window = 502;
  for (int i = 0; i < 20 && target_.received.size() < static_cast<size_t>(taken); i++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received.size(), static_cast<size_t>(taken));
}

TEST_P(Tight, PortThatASocketOfThisHostUsesIsSkipped) {
  // A connection of our own to the target, from the very port that comes next.
  const bool six = World::families().target6;
  // Whichever of the two shadow ports is next, one flow each finds out.
  const SocketAddress self(cast().host, kShadowPort, six), target(cast().target, kTargetPort, six);
  const int fd = socket(self.raw.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  ASSERT_GE(fd, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  ASSERT_EQ(bind(fd, self.get(), self.size), 0) << std::strerror(errno);
  EXPECT_NE(connect(fd, target.get(), target.size), 0);
  EXPECT_EQ(errno, EINPROGRESS);
  collect();
  mark();
  knock();
  EXPECT_EQ(target_.shadow_port, kShadowPort + 1);
  next_client();
  capture(client_.syn()).none();
  capture(client_.ack()).none();
  EXPECT_GE(moved()["event.port_in_use"], 1);
  close(fd);
  collect();
}

TEST_P(Tight, BacklogOfAFlowIsFreedByAcks) {
  open();
  int64_t total = 0;
  for (int i = 0; i < 60; i++) { // far more than the store holds at once
    deliver(capture(client_.data(filler(1400, static_cast<unsigned>(i)))));
    deliver(consumed(target_.ack()));
    total += 1400;
  }
  EXPECT_EQ(moved()["delivered"], total);
  EXPECT_LE(new_store_entries(), 1);
}

// A flow table with a single row.
class OneFlow : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.limits.flows = 1;
    return c;
  }
};
DOPPEL_ALL_MODES(OneFlow);

TEST_P(OneFlow, TableFull) {
  open();
  Client second;
  second.port = unused_port();
  mark();
  capture(second.syn()).none();
  capture(second.ack()).none();
  capture(second.data(kGet)).none();
  expect_account({{"excluded.table_full", 7}, {"observed", 7}});
  expect_flows({});
  const Packet original = client_.data(kGet);
  capture(original).are({expected().copy_of(original, kGet)});
  capture(client_.fin());
}

// A mapping that never joins.
class NeverJoins : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.mappings[0].join = false;
    return c;
  }
};
DOPPEL_ALL_MODES(NeverJoins);

TEST_P(NeverJoins, OlderConnectionsHaveAReasonOfTheirOwn) {
  capture(client_.data(kGet)).none();
  expect_account({{"excluded.join_never", 7}, {"observed", 7}});
  capture(client_.rst()).none();
}

class Hops : public Session {};
DOPPEL_ALL_MODES(Hops);

TEST_P(Hops, CopyHasOneHopLess) {
  client_.ttl = 9;
  open();
  const Packet original = client_.data(kGet);
  const Frames sent = capture(original);
  sent.are({expected().copy_of(original, kGet)});
  EXPECT_EQ(sent.at(0).ttl, 8);
}

TEST_P(Hops, NoCopyLeavesWithoutAHop) {
  // The client's path became longer after the shadow was opened.
  client_.ttl = 9;
  open();
  client_.ttl = 1;
  for (const View &v : capture(client_.data(kGet)))
    EXPECT_GT(v.ttl, 0) << "a router would have dropped it";
}

TEST_P(Hops, LastHopOpensNothing) {
  client_.ttl = 1;
  capture(client_.syn()).none();
  capture(client_.ack()).none();
  capture(client_.data(kGet)).none();
  expect_account({{"excluded.hops", 7}, {"observed", 7}});
}

} // namespace
} // namespace doppel::bpftest
