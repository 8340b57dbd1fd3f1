// SPDX-License-Identifier: Apache-2.0
// Payload on its way to the target, and the target's answers (docs/design.md, The shadow).
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr char kSet[] = "set key 0 0 5\r\nvalue\r\n";
constexpr uint32_t kSetSize = sizeof kSet - 1;

class Data : public Session {};
DOPPEL_ALL_MODES(Data);

TEST_P(Data, CopyInFull) {
  open();
  mark();
  const Packet original = client_.data(kSet);
  capture(original).are({expected().copy_of(original, kSet)});
  expect_account({{"observed", kSetSize}, {"in_flight", kSetSize}});
  EXPECT_EQ(moved()["captured"], 1);
  EXPECT_EQ(moved()["copied"], 1);
}

TEST_P(Data, EthernetPaddingStaysBehind) {
  open();
  mark();
  const Frames sent = capture(client_.data("gets\r\n").padding(4));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].trailing, 0u);
  EXPECT_TRUE(sent[0].faults.empty()) << sent[0].faults[0];
  EXPECT_EQ(target_.takes(sent[0]), "");
  EXPECT_EQ(target_.received, "gets\r\n");
  expect_account({{"observed", 6}, {"in_flight", 6}});
}

TEST_P(Data, DeliveredWhenTheTargetAcknowledges) {
  open();
  mark();
  deliver(capture(client_.data(kSet)));
  consumed(target_.ack()).none();
  expect_account({{"observed", kSetSize}, {"delivered", kSetSize}});
  EXPECT_EQ(moved()["responses"], 1);
  EXPECT_LE(new_store_entries(), 1) << "more than the chunk that the next byte goes into";
}

TEST_P(Data, ResponseIsConsumedAndAcknowledged) {
  open();
  mark();
  deliver(capture(client_.data(kSet)));
  consumed(target_.response("STORED\r\n")).are({expected().made(client_.next, 0)});
  expect_account({{"observed", kSetSize}, {"delivered", kSetSize}});
  // The next copy acknowledges it, too.
  const Packet original = client_.data("get key\r\n");
  capture(original).are({expected().copy_of(original, "get key\r\n")});
}

TEST_P(Data, HighestByteOfTheResponsesIsAcknowledgedDespiteAHole) {
  open();
  deliver(capture(client_.data(kSet)));
  target_.next += 1000; // lost on the way
  consumed(target_.response("STORED\r\n")).are({expected().made(client_.next, 0)});
  const uint32_t highest = target_.next;
  // What is older is acknowledged, and does not take anything back.
  const Frames sent = consumed(target_.segment(highest - 1008, PSH, "VALUE"));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].ack, highest);
}

TEST_P(Data, WaitsForTheHandshake) {
  knock();
  ASSERT_FALSE(HasFatalFailure());
  capture(client_.data(kSet)).none();
  capture(client_.data("get key\r\n")).none();
  expect_account({{"observed", kSetSize + 9}, {"in_flight", kSetSize + 9}});
  const Frames sent = consumed(target_.syn_ack());
  ASSERT_FALSE(sent.empty());
  for (const View &v : sent)
    EXPECT_EQ(v.ack, target_.isn + 1);
  deliver(sent);
  EXPECT_EQ(target_.received, std::string(kSet) + "get key\r\n");
  consumed(target_.ack()).none();
  expect_account({{"observed", kSetSize + 9}, {"delivered", kSetSize + 9}});
}

TEST_P(Data, SegmentMadeFromTheStoreInFull) {
  knock();
  capture(client_.data(kSet));
  const Frames sent = consumed(target_.syn_ack());
  ASSERT_FALSE(sent.empty());
  Frames{sent.back()}.are({expected().made(client_.isn + 1, PSH, kSet)});
}

TEST_P(Data, SizesAndAlignmentsSurviveTheStore) {
  // Odd lengths, the ends of chunks, more than one segment; each waits and is built anew.
  std::string all;
  knock();
  ASSERT_FALSE(HasFatalFailure());
  for (size_t size : {1, 2, 3, 255, 256, 257, 511, 512, 513, 1023, 1447, 1448}) {
    const std::string text = filler(size, static_cast<unsigned>(size));
    all += text;
    capture(client_.data(text)).none();
  }
  deliver(consumed(target_.syn_ack()));
  // The target's window and ACKs clock the rest out.
  for (int round = 0; round < 10 && target_.received.size() < all.size(); round++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, all);
  consumed(target_.ack());
  EXPECT_EQ(moved()["delivered"], static_cast<int64_t>(all.size()));
  EXPECT_LE(new_store_entries(), 1) << "more than the chunk that the next byte goes into";
}

TEST_P(Data, LargeValueInManySegments) {
  open();
  mark();
  std::string all;
  for (int i = 0; i < 300; i++) {
    const std::string text = filler(1448, static_cast<unsigned>(i));
    all += text;
    deliver(capture(client_.data(text)));
    if (i % 8 == 7)
      deliver(consumed(target_.ack()));
  }
  for (int round = 0; round < 50 && target_.received.size() < all.size(); round++)
    deliver(consumed(target_.ack()));
  EXPECT_TRUE(target_.received == all)
      << target_.received.size() << " of " << all.size() << " bytes";
  consumed(target_.ack());
  expect_account({{"observed", static_cast<int64_t>(all.size())},
                  {"delivered", static_cast<int64_t>(all.size())}});
}

TEST_P(Data, EcnOfTheClientsPathIsCleared) {
  open();
  for (uint8_t ecn : {1, 2, 3}) {
    client_.tos = static_cast<uint8_t>(0x28 | ecn);
    const Packet original = client_.data(kSet);
    capture(original).are({expected().copy_of(original, kSet)});
  }
  for (unsigned flags : {0u + ECE, 0u + CWR, 0u + ECE + CWR + PSH}) {
    const Frames sent = capture(client_.data(kSet, flags));
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].flags & (ECE | CWR), 0);
    EXPECT_EQ(sent[0].text(), kSet);
    EXPECT_TRUE(sent[0].faults.empty());
  }
}

TEST_P(Data, SackBlocksOfTheClientAreBlanked) {
  open();
  const std::vector<Bytes> options = {opt::nop(), opt::nop(), opt::timestamps(client_.tsval, 4000),
                                      opt::nop(), opt::nop(), opt::sack({{500100, 500200}})};
  const Frames sent = capture(client_.data(kSet).options(options));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_FALSE(sent[0].options.has(opt::kSack));
  EXPECT_EQ(sent[0].text(), kSet);
  EXPECT_TRUE(sent[0].faults.empty()) << sent[0].faults[0];
}

TEST_P(Data, OptionsInUnusualOrder) {
  open();
  const struct {
    const char *name;
    std::vector<Bytes> options;
  } rows[] = {
      {"timestamp first", {opt::timestamps(70010, 4000), opt::nop(), opt::nop()}},
      {"unknown before", {opt::unknown(253, {1, 2}), opt::timestamps(70020, 4000), opt::end()}},
      {"no timestamp although negotiated", {}},
      {"broken length", {opt::lying(8, 200, {1})}},
      {"TFO in a data segment",
       {opt::nop(), opt::nop(), opt::timestamps(70030, 4000), opt::tfo({1, 2})}},
  };
  for (const auto &row : rows) {
    SCOPED_TRACE(row.name);
    const Frames sent = capture(client_.data(kSet).options(row.options));
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].text(), kSet);
    EXPECT_TRUE(sent[0].options.timestamps) << "RFC 7323, 3.2: on every segment once negotiated";
    EXPECT_FALSE(sent[0].options.has(opt::kTfo));
    EXPECT_FALSE(sent[0].options.has(253));
    EXPECT_TRUE(sent[0].faults.empty());
  }
}

TEST_P(Data, TimestampsNeverGoBack) {
  open();
  client_.tsval = 70500;
  deliver(capture(client_.data(kSet)));
  client_.tsval = 70400; // overtaken on the way
  const Frames sent = capture(client_.data(kSet));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].options.timestamps->first, 70500u);
  client_.tsval = 70600;
  const Frames later = capture(client_.data(kSet));
  ASSERT_EQ(later.size(), 1u);
  EXPECT_EQ(later[0].options.timestamps->first, 70600u);
}

TEST_P(Data, TimestampsThatWrap) {
  client_.tsval = 0xfffffff0;
  open();
  deliver(capture(client_.data(kSet)));
  client_.tsval = 0x10;
  const Packet original = client_.data(kSet);
  capture(original).are({expected().copy_of(original, kSet)});
}

TEST_P(Data, TargetsTimestampIsEchoed) {
  open();
  deliver(capture(client_.data(kSet)));
  target_.tsval += 250;
  consumed(target_.ack());
  const Packet original = client_.data(kSet);
  capture(original).are({expected().copy_of(original, kSet)});
}

// The source's program reads it beside the stream (RFC 6093): a copy would have it in the stream.
TEST_P(Data, UrgentDataBarsTheFlow) {
  open();
  mark();
  deliver(capture(client_.data(kSet)));
  for (int turn = 0; turn < 10; turn++) {
    client_.answered(8);
    const Frames sent =
        capture(turn ? client_.data(kSet) : client_.data(kSet, PSH | URG).urgent(3));
    for (size_t i = 0; i < sent.size(); i++)
      EXPECT_EQ(sent[i].text(), "");
  }
  EXPECT_EQ(moved()["observed"], 11 * kSetSize) << text(moved());
  EXPECT_EQ(moved()["excluded.urgent"], 10 * kSetSize) << text(moved());
}

TEST_P(Data, AcksOfTheClientAreNotCopied) {
  open();
  mark();
  deliver(capture(client_.data(kSet)));
  client_.answered(8);
  capture(client_.ack()).none();
  capture(client_.segment(client_.next - 1, 0)).none(); // keepalive
  EXPECT_EQ(moved()["captured"], 3);
  EXPECT_EQ(moved()["copied"], 1);
}

TEST_P(Data, KeepaliveOfTheTargetIsAnswered) {
  open();
  const Frames sent = consumed(target_.segment(target_.next - 1, 0));
  sent.are({expected().made(client_.next, 0)});
}

TEST_P(Data, TwoFlowsDoNotMix) {
  open();
  const Client first_client = client_;
  const Target first_target = target_;
  next_client();
  client_.isn = client_.next = 7000000;
  open();
  EXPECT_NE(target_.shadow_port, first_target.shadow_port);
  const Packet second = client_.data("get second\r\n");
  capture(second).are({expected().copy_of(second, "get second\r\n")});
  client_ = first_client;
  target_ = first_target;
  const Packet first = client_.data("get first\r\n");
  capture(first).are({expected().copy_of(first, "get first\r\n")});
}

} // namespace
} // namespace doppel::bpftest
