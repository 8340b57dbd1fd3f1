// SPDX-License-Identifier: Apache-2.0
// Packets that cannot be copied because of how they came: as fragments, with IP options, cut off.
// Each leaves a hole in its stream, which is counted once, by its name.
#include "tests/bpf/session.h"
#include "tests/packet/explain.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

const std::string kValue = filler(600);

// How a client's segment comes, and as what it is counted.
struct Damage {
  const char *name;
  void (*spoil)(Packet &p);
  int64_t told = 600; // bytes that its headers tell of
};

const std::vector<Damage> kIpv4Damages = {
    // Of 600 bytes behind 32 of TCP, 400 of IP come with the first fragment.
    {"fragment", [](Packet &p) { p.payload(kValue.substr(0, 368)).fragment(0, true); }, 368},
    {"ip_options",
     [](Packet &p) {
       p.ip_options({0x94, 4, 0, 0});
     }},
    {"truncated", [](Packet &p) { p.truncate(14 + 20 + 32 + 100); }},
};
const std::vector<Damage> kIpv6Damages = {
    kIpv4Damages[0],
    {"ip_options", [](Packet &p) { p.extension(60, Bytes(6)); }},
    {"truncated", [](Packet &p) { p.truncate(14 + 40 + 32 + 100); }},
};

const std::vector<Damage> &damages() {
  return World::families().client6 ? kIpv6Damages : kIpv4Damages;
}

class Hole : public Session {
protected:
  void spoilt(const Damage &how) {
    Packet p = client_.data(kValue);
    how.spoil(p);
    capture(p).none();
  }
  // Of so many bytes in all 600 were spoilt, and the others of a flow that waits.
  void expect_left_out(const Damage &how, int64_t observed) {
    expect_account(
        {{"observed", observed}, {"excluded.not_joined", observed - 600}, {reason(how), 600}});
  }
  static std::string reason(const Damage &how) { return std::string("excluded.") + how.name; }
  // A request that is answered.
  void ask() {
    deliver(capture(client_.data(kGet)));
    client_.answered(5);
    consumed(target_.ack());
  }
};
DOPPEL_ALL_MODES(Hole);

TEST_P(Hole, OfAShadowIsCountedWhenTheSourceGoesOn) {
  for (const Damage &how : damages()) {
    SCOPED_TRACE(how.name);
    next_client();
    open();
    ASSERT_FALSE(HasFatalFailure());
    ask();
    mark();
    spoilt(how);
    expect_account({});
    client_.answered(8);
    const Frames sent = capture(client_.data(kGet));
    EXPECT_EQ(moved()[reason(how)], 600) << text(moved());
    EXPECT_EQ(moved()["observed"], 607);
    EXPECT_EQ(moved()["lost.client_gap"], 0);
    EXPECT_EQ(moved()["event.malformed"], 0);
    for (const View &v : sent)
      EXPECT_TRUE(v.payload.empty() || v.text() == kGet) << summary(v);
  }
}

TEST_P(Hole, ThatTheClientFillsIsNone) {
  for (const Damage &how : damages()) {
    SCOPED_TRACE(how.name);
    next_client();
    open();
    ASSERT_FALSE(HasFatalFailure());
    ask();
    mark();
    const uint32_t seq = client_.next;
    spoilt(how);
    deliver(capture(client_.segment(seq, PSH, kValue)));
    ask();
    EXPECT_EQ(moved()["observed"], 607);
    EXPECT_EQ(moved()[reason(how)], 0);
    // Another, later, is not called so.
    client_.data(kValue);
    client_.answered(8);
    capture(client_.data(kGet));
    EXPECT_EQ(moved()["lost.client_gap"], 600) << text(moved());
    EXPECT_EQ(moved()[reason(how)], 0);
  }
}

TEST_P(Hole, OfAFlowThatWaitsIsCountedOnce) {
  for (const Damage &how : damages()) {
    SCOPED_TRACE(how.name);
    next_client();
    capture(client_.data("half of")).none();
    mark();
    const uint32_t seq = client_.next;
    spoilt(how);
    expect_account({{"observed", how.told}, {reason(how), how.told}});
    Packet again = client_.segment(seq, PSH, kValue);
    how.spoil(again);
    capture(again).none();
    capture(client_.data("half of")).none();
    expect_left_out(how, 607);
    // A gap that nothing is known of is one like any other.
    client_.data(kValue);
    capture(client_.data("half of")).none();
    expect_left_out(how, 1214);
  }
}

TEST_P(Hole, OfAFlowThatIsNotKnownIsCountedOnce) {
  for (const Damage &how : damages()) {
    SCOPED_TRACE(how.name);
    next_client();
    mark();
    for (int i = 0; i < 5; i++) {
      const uint32_t seq = client_.next;
      spoilt(how);
      Packet again = client_.segment(seq, PSH, kValue);
      how.spoil(again);
      capture(again).none();
    }
    // The rest of the last fragment is not told by anything.
    const int64_t bytes = 4 * 600 + how.told;
    expect_account({{"observed", bytes}, {reason(how), bytes}});
    expect_flows({{"waiting", 1}});
  }
}

TEST_P(Hole, AtTheBeginningOfAStream) {
  for (const Damage &how : damages()) {
    SCOPED_TRACE(how.name);
    next_client();
    capture(client_.syn()).none();
    mark();
    spoilt(how);
    client_.answered(8);
    capture(client_.data("half of")).none();
    expect_left_out(how, 607);
  }
}

TEST_P(Hole, JoinsAtTheNextRequest) {
  for (const Damage &how : damages()) {
    SCOPED_TRACE(how.name);
    next_client();
    open();
    ASSERT_FALSE(HasFatalFailure());
    ask();
    spoilt(how);
    client_.answered(8);
    mark();
    for (int i = 0; i < 3; i++) {
      capture(client_.data(kGet));
      client_.answered(5);
    }
    EXPECT_EQ(moved()["joined"], 1) << text(moved());
    EXPECT_EQ(moved()["excluded.not_joined"] % 7, 0);
    EXPECT_LE(moved()["excluded.not_joined"], 7);
  }
}

// What is there of a truncated segment is no segment.
TEST_P(Hole, TruncatedSegmentIsNotMirrored) {
  open();
  ASSERT_FALSE(HasFatalFailure());
  mark();
  spoilt(damages().back());
  EXPECT_EQ(shadow().tcp.end, client_.isn + 1);
  EXPECT_EQ(new_store_entries(), 0);
}

} // namespace
} // namespace doppel::bpftest
