// SPDX-License-Identifier: Apache-2.0
// What is shared: one flow and one client leave room for others, who needs nothing gives what he
// holds, and a large flow is freed in slices (docs/design.md, "Decisions that differ from the first
// design").
#include "tests/bpf/session.h"
#include "tests/soon.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

// Many shadows, a store of 64 chunks, and no cap on a flow: what one may hold depends on others.
class Shared : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.limits.flow_cap = 0;
    c.limits.store_bytes = 64 * DP_CHUNK;
    return c;
  }
  struct Pair {
    Client client;
    Target target;
  };
  Pair put_aside() { return {client_, target_}; }
  void go_on(const Pair &p) {
    client_ = p.client;
    target_ = p.target;
  }
  void be(Ip4 ip) {
    client_ = Client{};
    client_.ip = ip;
    client_.port = unused_port();
    target_ = Target{};
  }
  // A connection of the client with that address, open.
  void next(Ip4 ip) {
    be(ip);
    open();
  }
  // The same, and the target takes nothing of it.
  void next_stuck(Ip4 ip) {
    next(ip);
    target_.window = 0;
    consumed(target_.ack());
  }
  // Requests until the flow holds so many chunks. What that led to.
  Frames fill(unsigned chunks) {
    for (int i = 0; i < 4000 && shadow().tcp.chunks < chunks; i++) {
      Frames sent = capture(client_.data(filler(1400)));
      if (!sent.empty())
        return sent;
    }
    return {};
  }
  void expect_broken(const Frames &sent, const Pair &p) {
    ASSERT_EQ(sent.size(), 1u) << sent.text();
    EXPECT_TRUE(sent[0].has(RST));
    EXPECT_EQ(sent[0].sport, p.target.shadow_port);
    EXPECT_EQ(moved()["broken"], 1);
    EXPECT_GT(moved()["lost.store_full"], 0);
  }
  void expect_goes_on(const Pair &p) {
    go_on(p);
    const Packet request = client_.data(kGet);
    const Frames sent = capture(request);
    sent.are({expected().copy_of(request, kGet)});
    deliver(sent);
    consumed(target_.ack());
  }
  // Text of so many bytes beyond a hole.
  void leave_a_hole(uint32_t bytes) {
    for (uint32_t at = 1000; at < bytes; at += 1000)
      capture(client_.segment(client_.next + at, PSH, filler(1000))).none();
  }
  const Ip4 a{"10.9.0.51"}, b{"10.9.0.52"}, c{"10.9.0.53"};
};
DOPPEL_ALL_MODES(Shared);

TEST_P(Shared, OneMayHoldMost) {
  next_stuck(a);
  mark();
  fill(50).none();
  EXPECT_EQ(shadow().tcp.chunks, 50u);
  EXPECT_EQ(moved()["broken"], 0);
}

// BPF_PROG_RUN takes a page at most.
class SharedByLarge : public Shared {};
DOPPEL_HOOK_MODES(SharedByLarge);

// What a packet needs is counted at once if all of it would be granted, else chunk by chunk.
TEST_P(SharedByLarge, PacketTakesWhatSmallOnesWould) {
  next_stuck(a);
  mark();
  for (int i = 0; i < 5; i++)
    capture_gso(client_.data(filler(10 * DP_CHUNK)), 1448).none();
  EXPECT_GE(shadow().tcp.chunks, 50u);
  EXPECT_LE(shadow().tcp.chunks, 51u); // the stream does not begin with a chunk
  EXPECT_EQ(plane().store_state().used, plane().chunks_held());
  EXPECT_EQ(plane().all_clients().chunks, static_cast<int>(shadow().tcp.chunks));
  EXPECT_EQ(plane().target_chunks(), static_cast<int>(shadow().tcp.chunks));
  EXPECT_EQ(moved()["broken"], 0);
}

TEST_P(SharedByLarge, PacketThatIsTooMuchIsOneTooMany) {
  next_stuck(b);
  fill(10).none();
  next_stuck(a);
  const Pair most = put_aside();
  // The last chunk of 52 is granted: before it the flow holds 51, of 4 times the 64 - 10 - 51 = 3
  // that are free. That is four times less than it needs, and so it is without the nine before.
  fill(40).none();
  mark();
  expect_broken(capture_gso(client_.data(filler(20 * DP_CHUNK)), 1448), most);
  EXPECT_EQ(plane().store_state().used, plane().chunks_held());
}

// What was marked in a chunk when another flow had it says nothing of the next one's bytes.
TEST_P(Shared, ChunkComesUnmarked) {
  next(a);
  leave_a_hole(20000);
  plane().command(slot(), DP_CMD_RESET);
  collect();
  next(b);
  const uint32_t begin = client_.next;
  capture(client_.segment(begin + 1000, PSH, filler(1000))).none();
  capture(client_.segment(begin, PSH, filler(1000)));
  EXPECT_EQ(shadow().tcp.end - begin, 2000u);
  EXPECT_EQ(shadow().tcp.ahead - begin, 2000u);
}

TEST_P(Shared, WhoFindsNoRoomBreaksTheOneThatHoldsMore) {
  next_stuck(a);
  fill(40).none();
  const Pair most = put_aside();
  next_stuck(b);
  mark();
  expect_broken(fill(24), most);
  fill(24).none();
  EXPECT_EQ(moved()["excluded.backoff"], 0) << "what asked for room was stored";
}

TEST_P(Shared, WhoHoldsMostBreaksItself) {
  next_stuck(b);
  fill(10).none();
  const Pair other = put_aside();
  next_stuck(a);
  const Pair most = put_aside();
  mark();
  expect_broken(fill(60), most);
  go_on(other);
  fill(20).none();
}

TEST_P(Shared, IdleShadowsGiveBeforeAFlowBreaks) {
  std::vector<Pair> idle;
  for (int i = 0; i < 20; i++) {
    next(b);
    expect_goes_on(put_aside());
    idle.push_back(put_aside());
  }
  next_stuck(a);
  mark();
  fill(48).none(); // more than would be left
  EXPECT_EQ(moved()["broken"], 0);
  for (const Pair &p : idle)
    expect_goes_on(p);
  EXPECT_EQ(moved()["broken"], 0);
}

TEST_P(Shared, IdleShadowsGiveWithoutAnybodyAsking) {
  for (int i = 0; i < 10; i++) {
    next(b);
    expect_goes_on(put_aside());
  }
  EXPECT_EQ(new_store_entries(), 10) << "the store was not short";
  next_stuck(a);
  fill(34).none();
  EXPECT_TRUE(soon([this] { return new_store_entries() == 34; })) << new_store_entries();
}

TEST_P(Shared, TextBeyondAHoleGoesBeforeAFlowBreaks) {
  next(b);
  expect_goes_on(put_aside());
  leave_a_hole(60000);
  EXPECT_GE(shadow().tcp.chunks, 29u);
  const Pair holed = put_aside();
  next_stuck(a);
  mark();
  fill(40).none();
  EXPECT_EQ(moved()["broken"], 0);
  EXPECT_LE(new_store_entries(), 41);
  expect_goes_on(holed);
}

TEST_P(Shared, TextBeyondAHoleGoesWithAClientThatIsSilent) {
  next(b);
  expect_goes_on(put_aside());
  leave_a_hole(80000);
  EXPECT_GE(shadow().tcp.chunks, 39u);
  plane().age(slot(), 31);
  EXPECT_TRUE(soon([this] { return new_store_entries() == 0; })) << new_store_entries();
  expect_goes_on(put_aside());
}

TEST_P(Shared, OneClientLeavesRoomForOthers) {
  next_stuck(b);
  fill(12).none();
  const Pair other = put_aside();
  Frames sent;
  for (int i = 0; i < 20 && sent.empty(); i++) {
    next_stuck(a);
    mark();
    sent = fill(5);
  }
  // One of its own made room, although the other client's flow holds more.
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_TRUE(sent[0].has(RST));
  EXPECT_NE(sent[0].sport, other.target.shadow_port);
  next(c);
  expect_goes_on(put_aside());
  go_on(other);
  EXPECT_EQ(shadow().tcp.chunks, 12u);
}

// Few rows of the flow table, few shadows that may wait for the target.
class Scarce : public Shared {
protected:
  Config config() const override {
    Config c = default_config();
    c.limits.flows = 32;
    c.limits.embryonic = 20;
    return c;
  }
  // A client's handshake and its first request.
  void begin_with(Ip4 ip) {
    be(ip);
    capture(client_.syn());
    capture(client_.ack());
    capture(client_.data(kGet));
    clients_.push_back(client_);
  }
  void next_kept(Ip4 ip) {
    next(ip);
    clients_.push_back(client_);
  }
  // The rows go with the flows: the next test finds an empty table.
  void TearDown() override {
    for (Client &client : clients_)
      capture(client.fin());
    Shared::TearDown();
  }
  std::vector<Client> clients_;
};
DOPPEL_ALL_MODES(Scarce);

TEST_P(Scarce, OneClientLeavesRowsForOthers) {
  mark();
  for (int i = 0; i < 31; i++)
    next_kept(a);
  EXPECT_EQ(moved()["opened"], 31);
  begin_with(a);
  EXPECT_EQ(moved()["excluded.table_full"], 7);
  EXPECT_EQ(moved()["opened"], 31);
  next_kept(b);
  EXPECT_EQ(moved()["opened"], 32);
}

TEST_P(Scarce, RowsOfFlowsWithoutAShadowCountAsWell) {
  mark();
  for (int i = 0; i < 32; i++) {
    be(a);
    capture(client_.data("x")).none(); // older than the mirror, and no command
    clients_.push_back(client_);
  }
  EXPECT_EQ(moved()["waiting"], 31);
  EXPECT_EQ(moved()["excluded.table_full"], 1);
  EXPECT_EQ(moved()["excluded.not_joined"], 31);
  next_kept(b);
  EXPECT_EQ(moved()["opened"], 1);
}

TEST_P(Scarce, OneClientLeavesHalfOpenShadowsForOthers) {
  mark();
  for (int i = 0; i < 19; i++)
    begin_with(a);
  EXPECT_EQ(moved()["opened"], 19);
  begin_with(a);
  EXPECT_EQ(moved()["excluded.embryonic"], 7);
  begin_with(b);
  EXPECT_EQ(moved()["opened"], 20);
}

// Few shadow ports.
class FewPorts : public Scarce {
protected:
  Config config() const override {
    Config c = default_config();
    c.limits.port_last = c.limits.port_first + 31;
    return c;
  }
};
DOPPEL_ALL_MODES(FewPorts);

TEST_P(FewPorts, OneClientLeavesPortsForOthers) {
  mark();
  for (int i = 0; i < 31; i++)
    next_kept(a);
  EXPECT_EQ(moved()["opened"], 31);
  begin_with(a);
  EXPECT_EQ(moved()["excluded.ports_exhausted"], 7);
  next_kept(b);
  EXPECT_EQ(moved()["opened"], 32);
}

// A store in which one flow holds far more than one event may free.
class Large : public Shared {
protected:
  Config config() const override {
    Config c = default_config();
    c.limits.flow_cap = 0;
    c.limits.store_bytes = 2048 * DP_CHUNK;
    return c;
  }
};
DOPPEL_ALL_MODES(Large);

TEST_P(Large, TheEndOfALargeFlowIsFreedInSlices) {
  next_stuck(a);
  fill(1000).none();
  plane().command(slot(), DP_CMD_RESET);
  EXPECT_GT(plane().store_state().queued, 0u);
  // The timer does the rest.
  EXPECT_TRUE(soon([this] { return new_store_entries() == 0; })) << new_store_entries();
  EXPECT_EQ(plane().store_state().queued, 0u);
  collect();
}

TEST_P(Large, OneAcknowledgementOfMuchIsFreedInSlices) {
  next(a);
  target_.window = 65535;
  consumed(target_.ack());
  plane().widen(slot(), 2'000'000);
  for (int i = 0; i < 1000; i++)
    capture(client_.data(filler(1400)));
  EXPECT_EQ(new_store_entries(), 685);
  target_.received_next = client_.next;
  consumed(target_.ack());
  EXPECT_EQ(shadow().tcp.chunks, 1u);
  EXPECT_TRUE(soon([this] { return new_store_entries() == 1; })) << new_store_entries();
  expect_goes_on(put_aside());
}

} // namespace
} // namespace doppel::bpftest
