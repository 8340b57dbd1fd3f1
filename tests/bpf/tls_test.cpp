// SPDX-License-Identifier: Apache-2.0
// TLS cannot be copied: its keys are the source's alone. Such a connection is known by its first
// record, or in mid-stream by any, and excluded by that name.
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;
using namespace std::string_view_literals;

constexpr auto kHello = "\x16\x03\x01\x00\x20\x01\x00\x00\x1c\x03\x03 random and more\0\0"sv;
constexpr auto kData = "\x17\x03\x03\x00\x08 secret "sv;

class Tls : public Session {
protected:
  // The client's handshake up to its SYN; the next packet completes it.
  void greet() {
    client_.port = unused_port();
    capture(client_.syn()).none();
    mark();
  }
  // A client that goes on with application data, each record answered.
  void talk(int turns) {
    for (int i = 0; i < turns; i++) {
      client_.answered(100);
      capture(client_.data(kData)).none();
    }
  }
  void expect_all_excluded(int64_t bytes) {
    expect_account({{"observed", bytes}, {"excluded.tls", bytes}});
  }
  static int64_t size(std::string_view s) { return static_cast<int64_t>(s.size()); }
};
DOPPEL_ALL_MODES(Tls);

TEST_P(Tls, HelloThatCompletesTheHandshakeOpensNothing) {
  greet();
  capture(client_.data(kHello)).none();
  talk(10);
  expect_all_excluded(size(kHello) + 10 * size(kData));
  expect_flows({{"waiting", 1}});
}

// Whatever there is of it: of what lies behind a piece, nobody can wait.
TEST_P(Tls, HelloInPieces) {
  for (size_t cut = 1; cut <= 6; cut++) {
    SCOPED_TRACE(cut);
    greet();
    capture(client_.data(kHello.substr(0, cut))).none();
    capture(client_.data(kHello.substr(cut))).none();
    talk(10);
    expect_all_excluded(size(kHello) + 10 * size(kData));
    expect_flows({{"waiting", 1}});
  }
}

TEST_P(Tls, ShadowThatWaitsForTheFirstPayloadIsClosed) {
  for (size_t cut : {kHello.size(), size_t{1}, size_t{3}}) {
    SCOPED_TRACE(cut);
    next_client();
    open();
    ASSERT_FALSE(HasFatalFailure());
    mark();
    capture(client_.data(kHello.substr(0, cut)))
        .are({expected().made(client_.isn + 1, FIN)}, {"id"});
    if (cut < kHello.size())
      capture(client_.data(kHello.substr(cut))).none();
    talk(10);
    expect_all_excluded(size(kHello) + 10 * size(kData));
    target_.received_next = client_.isn + 2;
    target_.tsecr = client_.tsval;
    consumed(target_.fin());
    EXPECT_EQ(moved()["closed"], 1);
    EXPECT_EQ(moved()["broken"], 0);
    EXPECT_TRUE(plane().open_slots().empty());
  }
}

TEST_P(Tls, ShadowWhoseSynIsNotAnsweredYetIsClosedToo) {
  knock();
  ASSERT_FALSE(HasFatalFailure());
  mark();
  capture(client_.data(kHello)).none();
  talk(3);
  const Frames sent = consumed(target_.syn_ack());
  ASSERT_FALSE(sent.empty());
  for (const View &v : sent)
    EXPECT_TRUE(v.payload.empty());
  EXPECT_EQ(sent.back().flags & FIN, FIN);
  expect_all_excluded(size(kHello) + 3 * size(kData));
}

TEST_P(Tls, OldConnectionsNeverJoin) {
  for (unsigned type = 0x14; type <= 0x17; type++) {
    for (unsigned version = 0; version <= 4; version++) {
      SCOPED_TRACE(std::to_string(type) + " of 3." + std::to_string(version));
      client_.port = unused_port();
      mark();
      std::string record(kData);
      record[0] = static_cast<char>(type);
      record[2] = static_cast<char>(version);
      capture(client_.data(record)).none();
      talk(10);
      expect_all_excluded(11 * size(kData));
    }
  }
}

class TlsOnAnyApplication : public Tls {
protected:
  Config config() const override {
    Config c = default_config();
    c.mappings[0].application = DP_APP_ANY;
    return c;
  }
};
DOPPEL_ALL_MODES(TlsOnAnyApplication);

// Half a record was under way when the mirror came: it is known where it would join.
TEST_P(TlsOnAnyApplication, KnownAtTheFirstRecordThatBegins) {
  capture(client_.data("half of a record")).none();
  mark();
  client_.answered(100);
  capture(client_.data("half of the next")).none();
  talk(10);
  EXPECT_EQ(moved()["joined"], 0);
  EXPECT_EQ(moved()["in_flight"], 0);
  EXPECT_EQ(moved()["excluded.tls"], 10 * size(kData)) << text(moved());
}

TEST_P(Tls, WhatOnlyLooksSimilarIsMirrored) {
  const std::string_view first[] = {
      "get k\r\n"sv,
      "\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\0\0\0\0\0\0\0\0\0\0\0\0k"sv,
      "\x16\x04\x01\x00\x20\x01 another version"sv,
      "\x16\x03\x01\x00\x20\x02 not of a client"sv,
      "\x16\x03\x05\x00\x20\x01 another version"sv,
      "\x17\x03\x03\x00\x08 secret "sv, // no client begins with that
      "\x15"sv,
  };
  for (std::string_view text : first) {
    SCOPED_TRACE(std::to_string(text[0]));
    greet();
    const Frames sent = capture(client_.data(text));
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].flags, SYN);
    EXPECT_EQ(moved()["in_flight"], size(text));
    EXPECT_EQ(moved()["excluded.tls"], 0);
  }
}

TEST_P(Tls, RecordInTheMiddleOfAStreamIsNobodysBusiness) {
  open();
  deliver(capture(client_.data("set k 0 0 13\r\n")));
  deliver(capture(client_.data(kData)));
  deliver(capture(client_.data(kHello)));
  EXPECT_EQ(moved()["excluded.tls"], 0);
  EXPECT_EQ(target_.received.size(), 14 + kData.size() + kHello.size());
}

// A stranger's hello does not end it: it does not continue the stream.
TEST_P(Tls, HelloOutOfPlaceChangesNothing) {
  open();
  ASSERT_FALSE(HasFatalFailure());
  mark();
  capture(client_.segment(client_.isn + 1 - 10, PSH, kHello.substr(0, 10)));
  const Packet request = client_.data("get k\r\n");
  capture(request).are({expected().copy_of(request, "get k\r\n")});
  EXPECT_EQ(moved()["excluded.tls"], 0);
}

// A connection is known as one of MPTCP by any segment with data.
TEST_P(Tls, MultipathInMidStreamNeverJoins) {
  for (int i = 0; i < 10; i++) {
    capture(client_.data("get k\r\n")
                .options({opt::nop(), opt::nop(), opt::timestamps(client_.tsval, client_.tsecr),
                          opt::mptcp_data()}))
        .none();
    client_.answered(5);
  }
  expect_account({{"observed", 70}, {"excluded.mptcp", 70}});
}

} // namespace
} // namespace doppel::bpftest
