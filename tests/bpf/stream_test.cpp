// SPDX-License-Identifier: Apache-2.0
// The client's stream as TCP delivers it: again, overlapping, out of order, past 2^32. Each byte
// is observed once and sent once, whatever happens between client and source (docs/design.md,
// Accounting).
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

class Stream : public Session {
protected:
  void begin() override {
    open();
    mark();
  }
  uint32_t start() const { return client_.isn + 1; }
};
DOPPEL_ALL_MODES(Stream);

TEST_P(Stream, RetransmissionIsNeitherSentNorObservedTwice) {
  deliver(capture(client_.data("get k\r\n")));
  capture(client_.segment(start(), PSH, "get k\r\n")).none();
  expect_account({{"event.client_retransmit", 1}, {"in_flight", 7}, {"observed", 7}});
  consumed(target_.ack()).none();
  capture(client_.segment(start(), PSH, "get k\r\n")).none();
  expect_account({{"delivered", 7}, {"event.client_retransmit", 2}, {"observed", 7}});
  EXPECT_LE(new_store_entries(), 1) << "more than the chunk that the next byte goes into";
}

TEST_P(Stream, OverlapBringsItsNewBytesOnly) {
  deliver(capture(client_.data("get k")));
  deliver(capture(client_.segment(start(), PSH, "get key\r\n")));
  EXPECT_EQ(target_.received, "get key\r\n");
  expect_account({{"in_flight", 9}, {"observed", 9}});
}

TEST_P(Stream, BytesThatWereSentOnceStayAsTheyWere) {
  // The client's stack merged and changed nothing; a hostile one may: the first version counts.
  deliver(capture(client_.data("get k")));
  deliver(capture(client_.segment(start(), PSH, "XXXXXey\r\n")));
  EXPECT_EQ(target_.received, "get key\r\n");
}

TEST_P(Stream, HoleIsWaitedForAndThenFilled) {
  capture(client_.segment(start() + 6, PSH, "second")).none();
  expect_account({{"event.out_of_order", 1}});
  deliver(capture(client_.segment(start(), PSH, "first ")));
  for (int i = 0; i < 3 && target_.received.size() < 12; i++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, "first second");
  consumed(target_.ack());
  expect_account({{"delivered", 12}, {"event.out_of_order", 1}, {"observed", 12}});
}

TEST_P(Stream, ManyHolesInAnyOrder) {
  const std::string all = filler(1000);
  const auto part = [&](size_t i) {
    return capture(
        client_.segment(start() + static_cast<uint32_t>(i * 100), PSH, all.substr(i * 100, 100)));
  };
  for (size_t i : {7u, 3u, 9u, 5u, 1u})
    part(i).none();
  EXPECT_EQ(moved()["event.out_of_order"], 5);
  EXPECT_EQ(moved()["observed"], 0) << "the source may still get something else there";
  for (size_t i : {4u, 8u, 2u})
    part(i).none();
  deliver(part(0));
  deliver(part(6));
  for (int i = 0; i < 3 && target_.received.size() < all.size(); i++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, all);
  consumed(target_.ack());
  EXPECT_EQ(moved()["delivered"], 1000);
  EXPECT_EQ(moved()["observed"], 1000);
  EXPECT_LE(new_store_entries(), 1) << "more than the chunk that the next byte goes into";
}

TEST_P(Stream, SegmentThatSwallowsRangesBeyondAHole) {
  const std::string all = filler(600);
  capture(client_.segment(start() + 100, PSH, all.substr(100, 50))).none();
  capture(client_.segment(start() + 300, PSH, all.substr(300, 50))).none();
  // Covers both, and starts in the middle of the hole.
  capture(client_.segment(start() + 50, PSH, all.substr(50, 350))).none();
  EXPECT_EQ(moved()["observed"], 0);
  deliver(capture(client_.segment(start(), PSH, all)));
  for (int i = 0; i < 3 && target_.received.size() < all.size(); i++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, all);
  EXPECT_EQ(moved()["observed"], 600);
}

TEST_P(Stream, RetransmissionOfWhatLiesBeyondAHole) {
  capture(client_.segment(start() + 6, PSH, "second")).none();
  capture(client_.segment(start() + 6, PSH, "second")).none();
  expect_account({{"event.out_of_order", 2}});
}

// As many as a receive window can have: each is filled in its turn, and nothing breaks.
TEST_P(Stream, EverySecondSegmentIsMissing) {
  constexpr uint32_t kHoles = 100;
  for (uint32_t i = 0; i < kHoles; i++)
    capture(client_.segment(start() + 10 + i * 20, PSH, filler(10, i))).none();
  EXPECT_EQ(moved()["observed"], 0);
  EXPECT_EQ(moved()["event.out_of_order"], kHoles);
  for (uint32_t i = 0; i < kHoles; i++)
    deliver(capture(client_.segment(start() + i * 20, PSH, filler(10, i))));
  EXPECT_EQ(moved()["observed"], kHoles * 20);
  EXPECT_EQ(moved()["broken"], 0);
}

TEST_P(Stream, SegmentsOutOfEveryWindowAreIgnored) {
  const dp_shadow before = shadow();
  for (uint32_t seq : {start() + (64u << 20), start() - (64u << 20), start() + 0x80000000u}) {
    SCOPED_TRACE(seq);
    capture(client_.segment(seq, PSH, "garbage")).none();
    capture(client_.segment(seq, FIN)).none();
    capture(client_.segment(seq, RST)).none();
  }
  EXPECT_EQ(moved()["observed"], 0);
  EXPECT_EQ(shadow().tcp.end, before.tcp.end);
  EXPECT_EQ(shadow().tcp.flags & (DP_SH_CLIENT_FIN | DP_SH_CLIENT_RST), 0);
  const Packet original = client_.data("get k\r\n");
  capture(original).are({expected().copy_of(original, "get k\r\n")});
}

TEST_P(Stream, DamagedSegmentIsIgnoredAsTheSourceWill) {
  capture(client_.segment(start(), PSH, "get k\r\n").wrong_l4_checksum()).none();
  expect_account({{"event.bad_checksum", 1}});
  const Packet original = client_.data("get k\r\n");
  capture(original).are({expected().copy_of(original, "get k\r\n")});
}

class Wrap : public Session {
protected:
  void begin() override {
    client_.isn = client_.next = 0xffffff00;
    target_.isn = target_.next = 0xfffffff0;
    open();
    mark();
  }
};
DOPPEL_ALL_MODES(Wrap);

TEST_P(Wrap, SequenceNumbersPassTwoToTheThirtyTwo) {
  std::string all;
  for (unsigned i = 0; i < 8; i++) {
    const std::string text = filler(100, i);
    all += text;
    const Packet original = client_.data(text);
    const Frames sent = capture(original);
    sent.are({expected().copy_of(original, text)});
    deliver(sent);
    consumed(target_.response("STORED\r\n")).are({expected().made(client_.next, 0)});
  }
  EXPECT_LT(client_.next, 1000u);
  EXPECT_LT(target_.next, 1000u);
  EXPECT_EQ(target_.received, all);
  expect_account({{"delivered", 800}, {"observed", 800}});
  EXPECT_LE(new_store_entries(), 1) << "more than the chunk that the next byte goes into";
}

TEST_P(Wrap, WaitingBytesAcrossTheWrap) {
  target_.window = 0;
  consumed(target_.ack());
  const std::string all = filler(2000);
  capture(client_.data(all.substr(0, 1000))).none();
  capture(client_.data(all.substr(1000))).none();
  target_.window = 502;
  deliver(consumed(target_.ack()));
  for (int i = 0; i < 3 && target_.received.size() < all.size(); i++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, all);
  consumed(target_.ack());
  EXPECT_LE(new_store_entries(), 1) << "more than the chunk that the next byte goes into";
}

TEST_P(Wrap, HoleAcrossTheWrap) {
  const std::string all = filler(500);
  const uint32_t start = client_.isn + 1;
  capture(client_.segment(start + 300, PSH, all.substr(300))).none();
  deliver(capture(client_.segment(start, PSH, all.substr(0, 200))));
  deliver(capture(client_.segment(start + 200, PSH, all.substr(200, 100))));
  for (int i = 0; i < 3 && target_.received.size() < all.size(); i++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, all);
  consumed(target_.ack());
  EXPECT_EQ(moved()["delivered"], 500);
}

} // namespace
} // namespace doppel::bpftest
