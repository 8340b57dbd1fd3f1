// SPDX-License-Identifier: Apache-2.0
// Packets as devices hand them over: GRO super-packets, checksums still to be made, tags. Only a
// device can play these (docs/design.md, Why copies are rewritten and other segments built).
#include "tests/bpf/session.h"

#include "doppel/names.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr uint16_t kMss = 1448;

class Offload : public Session {
protected:
  // As capture(), with an offload description. Copies keep theirs, so they may be large, too.
  std::vector<Received> offloaded(const Packet &p, uint16_t gso_size) {
    wire().far().send_offloaded(p, gso_size);
    std::vector<Received> out = wire().collect();
    const Outcome rest = collect();
    EXPECT_EQ(rest.passed.size(), 1u) << "the original did not go on once";
    for (const View &v : rest.passed)
      EXPECT_EQ(to_hex(v.frame), to_hex(Packet(p).partial_checksum().build()));
    EXPECT_EQ(plane().identity_broken(), "");
    return out;
  }
};
DOPPEL_HOOK_MODES(Offload);

TEST_P(Offload, SuperPacketStaysOne) {
  open();
  target_.window = 10000;
  consumed(target_.ack());
  plane().widen(slot(), 100'000);
  mark();
  const std::string text = filler(20000);
  const Packet original = client_.data(text);
  const std::vector<Received> sent = offloaded(original, kMss);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].gso_size, kMss);
  EXPECT_TRUE(sent[0].partial);
  Frames{sent[0].view}.are({expected().copy_of(original, text)}, {"fault"});
  EXPECT_TRUE(sent[0].view.faults.empty());
  EXPECT_EQ(moved()["captured"], 14);
  EXPECT_EQ(moved()["copied"], 14);
  EXPECT_EQ(moved()["observed"], 20000);
  target_.received_next = client_.next;
  consumed(target_.ack()).none();
  EXPECT_EQ(moved()["delivered"], 20000);
  EXPECT_LE(new_store_entries(), 1);
}

TEST_P(Offload, SuperPacketLargerThanTheWindowWaits) {
  open();
  consumed(target_.ack().window(10)); // 1280 bytes
  mark();
  const std::string text = filler(20000);
  std::vector<Received> sent = offloaded(client_.data(text), kMss);
  for (const Received &r : sent)
    EXPECT_LE(r.view.payload.size(), 1280u);
  for (const Received &r : sent)
    EXPECT_EQ(target_.takes(r.view), "");
  for (int i = 0; i < 40 && target_.received.size() < text.size(); i++)
    deliver(consumed(target_.ack()));
  EXPECT_TRUE(target_.received == text);
}

TEST_P(Offload, SuperPacketBeforeTheHandshake) {
  knock();
  const std::string text = filler(30000);
  EXPECT_TRUE(offloaded(client_.data(text), kMss).empty());
  deliver(consumed(target_.syn_ack()));
  for (int i = 0; i < 40 && target_.received.size() < text.size(); i++)
    deliver(consumed(target_.ack()));
  EXPECT_TRUE(target_.received == text) << target_.received.size();
}

TEST_P(Offload, SegmentsLargerThanTheTargetsMssAreCutAnew) {
  target_.offer.mss_value = 1000;
  open();
  target_.window = 10000;
  consumed(target_.ack());
  plane().widen(slot(), 100'000);
  const std::string text = filler(10000);
  const std::vector<Received> sent = offloaded(client_.data(text), kMss);
  EXPECT_FALSE(sent.empty());
  for (const Received &r : sent) {
    EXPECT_LE(r.view.payload.size(), 988u);
    EXPECT_EQ(target_.takes(r.view), "");
  }
  for (int i = 0; i < 40 && target_.received.size() < text.size(); i++)
    deliver(consumed(target_.ack()));
  EXPECT_TRUE(target_.received == text);
}

TEST_P(Offload, ChecksumOfASingleSegmentIsStillToBeMade) {
  open();
  const Packet original = client_.data("get k\r\n");
  const std::vector<Received> sent = offloaded(original, 0);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_TRUE(sent[0].view.faults.empty()) << sent[0].view.faults[0];
  EXPECT_EQ(sent[0].view.text(), "get k\r\n");
}

TEST_P(Offload, EgressWithoutOffloadsMakesWholeFrames) {
  // The copy must then be right in every byte that leaves.
  sh("ethtool -K cap0 tx off tso off gso off");
  open();
  target_.window = 10000;
  consumed(target_.ack());
  plane().widen(slot(), 100'000);
  const std::string text = filler(20000);
  const std::vector<Received> cut = offloaded(client_.data(text), kMss);
  const std::vector<Received> one = offloaded(client_.data("get k\r\n"), 0);
  EXPECT_GE(cut.size(), 14u);
  EXPECT_EQ(one.size(), 1u);
  for (const std::vector<Received> &list : {cut, one})
    for (const Received &r : list) {
      EXPECT_FALSE(r.partial);
      EXPECT_EQ(r.gso_size, 0);
      EXPECT_EQ(target_.takes(r.view), "");
      EXPECT_TRUE(r.view.faults.empty()) << r.view.faults[0];
    }
  EXPECT_TRUE(target_.received == text + "get k\r\n");
  // What is built from a template with its checksum still to be made, too.
  wire().far().send_offloaded(target_.response("STORED\r\n"), 0);
  collect().sent.are({expected().made(client_.next, 0)});
  sh("ethtool -K cap0 tx on tso on gso on");
}

TEST_P(Offload, LargeResponseIsAnsweredWithASmallAck) {
  open();
  mark();
  wire().far().send_offloaded(target_.response(filler(40000)), kMss);
  const Outcome out = collect();
  EXPECT_TRUE(out.passed.empty());
  ASSERT_EQ(out.sent.size(), 1u) << out.sent.text();
  out.sent.are({expected().made(client_.next, 0)}, {"fault"});
  EXPECT_LT(out.sent[0].frame.size(), 100u);
  EXPECT_EQ(moved()["responses"], 28);
}

TEST_P(Offload, FramesOnDoppel0ThatAreNotOursAreDropped) {
  const auto before = counts_of(plane().global_cell());
  PacketSocket doppel1(DP_LINK_PEER), doppel0(DP_LINK);
  const Packet p = client_.data("get k\r\n");
  doppel1.send(p.build());               // arrives at doppel0
  EXPECT_FALSE(doppel0.send(p.build())); // leaves through doppel0
  const Outcome out = collect();
  EXPECT_TRUE(out.sent.empty());
  EXPECT_TRUE(out.passed.empty());
  EXPECT_FALSE(doppel1.receive(0));
  EXPECT_EQ(difference(counts_of(plane().global_cell()), before)["event.foreign_on_doppel0"], 2);
}

// A client's host: its own requests leave through the device.
class Egress : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.mappings[0].direction = DP_DIR_EGRESS;
    return c;
  }
  void SetUp() override {
    Session::SetUp();
    client_.ip = cast().host;
  }
  // The host sends; what leaves besides the original, which must be the last and unchanged.
  Frames leave(const Packet &p) {
    const Bytes frame = Packet(p).mac(cast().host_mac, cast().client_mac).build();
    wire().near().send(frame);
    Frames sent = collect().sent;
    for (auto it = sent.begin(); it != sent.end(); ++it)
      if (it->frame == frame) {
        sent.erase(it);
        return sent;
      }
    ADD_FAILURE() << "the original did not leave as it was:\n" << sent.text();
    return sent;
  }
};
DOPPEL_HOOK_MODES(Egress);

TEST_P(Egress, WholeSession) {
  leave(client_.syn()).none();
  const Frames syn = leave(client_.ack());
  ASSERT_EQ(syn.size(), 1u) << syn.text();
  EXPECT_EQ(syn[0].flags, SYN);
  target_.meets(syn[0]);
  consumed(target_.syn_ack()).are({expected().made(client_.isn + 1, 0)});
  const Packet original = client_.data("get k\r\n");
  const Frames copies = leave(original);
  copies.are({expected().copy_of(original, "get k\r\n")});
  deliver(copies);
  consumed(target_.response("END\r\n")).are({expected().made(client_.next, 0)});
  expect_account({{"delivered", 7}, {"observed", 7}});
  deliver(leave(client_.fin()));
  consumed(target_.fin()).are({expected().made(client_.next, 0)});
  EXPECT_EQ(moved()["closed"], 1);
}

TEST_P(Egress, CopiesAreNotCapturedAgain) {
  // They leave through the very hook that captures, and the target may listen on a captured port.
  leave(client_.syn()).none();
  leave(client_.ack());
  EXPECT_EQ(moved()["captured"], 2);
}

TEST_P(Egress, WhatArrivesIsNotCaptured) {
  Client other;
  other.port = unused_port();
  wire().far().send(other.data("get k\r\n").build());
  collect();
  EXPECT_EQ(moved()["observed"], 0);
}

} // namespace
} // namespace doppel::bpftest
