// SPDX-License-Identifier: Apache-2.0
// Joining in mid-stream, at a request boundary and nowhere else (docs/design.md, Decisions that
// differ from the first design).
#include <chrono>

#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;
using namespace std::string_view_literals;

constexpr char kOddLine[] = "half of a value\r\n";

class Join : public Session {
protected:
  // Expects that this payload opens a shadow with a SYN of its own right before it.
  void expect_joins(const Packet &p) {
    const View request = parse(p.build());
    mark();
    const Frames sent = capture(p);
    ASSERT_EQ(sent.size(), 1u) << "no shadow joined: " << text(moved());
    EXPECT_EQ(sent[0].flags, SYN);
    EXPECT_EQ(sent[0].seq, request.seq - 1);
    EXPECT_TRUE(sent[0].faults.empty());
    EXPECT_EQ(moved()["joined"], 1);
    EXPECT_EQ(moved()["opened"], 0);
    EXPECT_EQ(moved()["in_flight"], static_cast<int64_t>(request.payload.size()));
    target_.meets(sent[0]);
    target_.timestamps = request.options.timestamps.has_value();
  }
  // A mapping of its own, for what a mapping learns of its protocol.
  static Config named(const char *name) {
    Config c = default_config();
    c.mappings[0].name = name;
    return c;
  }
  // The request reaches the shadow that just opened, and the target ends it with `answer`.
  void breaks_off(std::string_view answer) {
    deliver(consumed(target_.syn_ack()));
    const Frames fin = consumed(target_.segment(target_.next, PSH | FIN, answer));
    target_.next += answer.size() + 1;
    deliver(fin);
    consumed(target_.ack()).none();
    EXPECT_EQ(moved()["closed"], 1);
    target_ = Target{};
  }
  // The flow joins `n` times, and each time the target breaks off with `answer`, where the source
  // answers 8 bytes.
  void break_off(int n, std::string_view answer) {
    for (int i = 0; i < n; i++) {
      SCOPED_TRACE(i);
      expect_joins(client_.data(kGet));
      ASSERT_FALSE(HasFatalFailure());
      breaks_off(answer);
      client_.answered(8);
    }
  }
  void expect_waits(const Packet &p) {
    mark();
    capture(p).none();
    EXPECT_EQ(moved()["joined"], 0);
    EXPECT_EQ(moved()["in_flight"], 0);
  }
};
DOPPEL_ALL_MODES(Join);

TEST_P(Join, AtACommandInFull) {
  client_.next = 777000;
  const Packet request = client_.data(kGet);
  expect_joins(request);
  ASSERT_FALSE(HasFatalFailure());
  consumed(target_.syn_ack()).are({expected().made(777000, PSH, kGet)});
  target_.received_next = client_.next;
  consumed(target_.response("END\r\n")).are({expected().made(client_.next, 0)});
  const Packet second = client_.data("get second\r\n");
  capture(second).are({expected().copy_of(second, "get second\r\n")});
}

TEST_P(Join, ShadowsSynOffersWhatCanBeUsed) {
  const Frames sent = capture(client_.data(kGet));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].options.mss, 1460);
  EXPECT_TRUE(sent[0].options.sack_ok);
  EXPECT_TRUE(sent[0].options.wscale);
  ASSERT_TRUE(sent[0].options.timestamps);
  EXPECT_EQ(sent[0].options.timestamps->first, client_.tsval);
}

TEST_P(Join, WithoutTimestampsWhereTheClientHasNone) {
  client_.timestamps = false;
  const Frames sent = capture(client_.data(kGet));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_FALSE(sent[0].options.timestamps);
}

TEST_P(Join, WhatIsACommand) {
  const std::string_view commands[] = {
      "get k\r\n",
      "gets k\r\n",
      "set k 0 0 1\r\nx\r\n",
      "add k 0 0 1\r\nx\r\n",
      "replace k 0 0 1\r\nx\r\n",
      "append k 0 0 1\r\nx\r\n",
      "prepend k 0 0 1\r\nx\r\n",
      "cas k 0 0 1 7\r\nx\r\n",
      "delete k\r\n",
      "incr k 1\r\n",
      "decr k 1\r\n",
      "touch k 10\r\n",
      "gat 10 k\r\n",
      "gats 10 k\r\n",
      "stats\r\n",
      "stats items\r\n",
      "version\r\n",
      "flush_all\r\n",
      "verbosity 1\r\n",
      "quit\r\n",
      "mg k v\r\n",
      "ms k 1\r\nx\r\n",
      "md k\r\n",
      "ma k\r\n",
      "mn\r\n",
      "me k\r\n",
      // Binary: magic, opcode, key length, extras length, type, vbucket, body length, opaque, CAS.
      "\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\0\0\0\0\0\0\0\0\0\0\0\0k"sv,
      "\x80\x01\x00\x01\x08\x00\x00\x00\x00\x00\x00\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0kv"sv,
      "\x80\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\0\0\0\0\0\0\0\0\0\0\0\0"sv,
  };
  for (std::string_view text : commands) {
    SCOPED_TRACE(std::string(text));
    client_.port = unused_port();
    client_.next += 100000;
    const uint32_t seq = client_.next;
    mark();
    const Frames sent = capture(client_.data(text));
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].seq, seq - 1);
    EXPECT_EQ(moved()["joined"], 1);
    plane().command(sent[0].sport - kShadowPort, DP_CMD_RESET);
    collect();
  }
}

TEST_P(Join, WhatIsNone) {
  const std::string_view payloads[] = {
      "value\r\n", "getx k\r\n", "GET k\r\n", " get k\r\n", "\r\n", "g", "se", "settle", "mg",
      "mgk v\r\n", "mz k\r\n", "STORED\r\n", "HTTP/1.1 200 OK\r\n",
      "\x80\x00\x00\x01"sv,                                                          // cut off
      "\x81\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\0\0\0\0\0\0\0\0\0\0\0\0k"sv, // a response
      "\x80\xff\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\0\0\0\0\0\0\0\0\0\0\0\0k"sv, // no such
                                                                                     // opcode
      "\x80\x00\xff\xff\x00\x00\x00\x00\x00\x00\x00\x01\0\0\0\0\0\0\0\0\0\0\0\0k"sv, // key too long
      "\x80\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01\0\0\0\0\0\0\0\0\0\0\0\0k"sv, // body too
                                                                                     // short
  };
  for (std::string_view text : payloads) {
    SCOPED_TRACE(std::string(text));
    client_.port = unused_port();
    expect_waits(client_.data(text));
    EXPECT_EQ(moved()["excluded.not_joined"], static_cast<int64_t>(text.size()));
    capture(client_.rst()).none();
  }
}

TEST_P(Join, WhereMemcachedIsSpokenOnlyAtACommand) {
  capture(client_.data(kGet)); // from here on it is known to be
  client_.port = unused_port();
  expect_waits(client_.data(kOddLine));
  expect_waits(client_.data(kGet)); // the client acknowledged nothing since
  for (int turn = 0; turn < 4; turn++) {
    client_.answered(8);
    expect_waits(client_.ack()); // no request yet
    expect_waits(client_.data("anything"));
  }
  client_.answered(8);
  expect_joins(client_.data(kGet));
}

TEST_P(Join, NotInTheMiddleOfAWrite) {
  // No PSH: more of the same write follows, although answers to earlier requests arrive.
  expect_waits(client_.data(kOddLine, 0));
  client_.answered(8);
  expect_waits(client_.data("second segment of a value"));
  client_.answered(8);
  expect_joins(client_.data(kGet));
}

TEST_P(Join, NotBehindAHole) {
  expect_waits(client_.data(kOddLine));
  client_.answered(8);
  client_.next += 10; // these were not seen
  expect_waits(client_.data("anything"));
  client_.answered(8);
  expect_joins(client_.data(kGet));
}

TEST_P(Join, NotAtARetransmission) {
  const uint32_t seq = client_.next;
  expect_waits(client_.data(kOddLine));
  client_.answered(8);
  expect_waits(client_.segment(seq, PSH, kOddLine));
  expect_waits(client_.segment(client_.next - 2, PSH, "\r\nget k\r\n"));
}

TEST_P(Join, BytesFromBeforeAreNotSentAndNotCountedTwice) {
  const uint32_t before = client_.next;
  expect_waits(client_.data(kOddLine));
  client_.answered(8);
  expect_joins(client_.data(kGet));
  ASSERT_FALSE(HasFatalFailure());
  mark();
  capture(client_.segment(before, PSH, kOddLine)).none();
  EXPECT_EQ(moved()["observed"], 0);
  deliver(consumed(target_.syn_ack()));
  EXPECT_EQ(target_.received, kGet);
}

TEST_P(Join, AgainAfterABreakAndAPause) {
  open();
  deliver(capture(client_.data(kGet)));
  consumed(target_.rst()).none();
  mark();
  client_.answered(5);
  capture(client_.data(kGet)).none(); // too early
  EXPECT_EQ(moved()["excluded.backoff"], 7);
  target_ = Target{};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  Frames sent;
  while (sent.empty() && std::chrono::steady_clock::now() < deadline) {
    client_.answered(5);
    sent = capture(client_.data(kGet));
  }
  ASSERT_EQ(sent.size(), 1u) << "the flow did not join again";
  EXPECT_EQ(sent[0].flags, SYN);
  EXPECT_EQ(sent[0].seq, client_.next - 7 - 1);
  EXPECT_EQ(moved()["joined"], 1);
}

TEST_P(Join, NoMoreAfterSixThatTheTargetBrokeOff) {
  break_off(6, "");
  ASSERT_FALSE(HasFatalFailure());
  for (int i = 0; i < 3; i++) {
    expect_waits(client_.data(kGet));
    EXPECT_EQ(moved()["excluded.unjoinable"], 7);
    client_.answered(8);
  }
}

TEST_P(Join, NoMoreAfterSixThatTheTargetRefusedInWords) {
  break_off(6, "400 Bad Request, I did not understand that\r\n");
  ASSERT_FALSE(HasFatalFailure());
  expect_waits(client_.data(kGet));
  EXPECT_EQ(moved()["excluded.unjoinable"], 7);
}

// The target may have had no room for more connections, or a firewall have forgotten them.
TEST_P(Join, OneMoreIsTriedAfterAWhile) {
  break_off(6, "");
  for (int i = 0; i < 2 && !HasFatalFailure(); i++) {
    expect_waits(client_.data(kGet));
    EXPECT_EQ(moved()["excluded.unjoinable"], 7);
    client_.answered(8);
    plane().end_pauses();
    break_off(1, "");
  }
  expect_waits(client_.data(kGet));
  EXPECT_EQ(moved()["excluded.unjoinable"], 7);
  client_.answered(8);
  plane().end_pauses();
  break_off(1, "STORED\r\n"); // it was of use
  expect_joins(client_.data(kGet));
}

TEST_P(Join, ForEverWhereTheTargetClosesAfterEachAnswer) { break_off(12, "STORED\r\n"); }

TEST_P(Join, ForEverWhereTheTargetSaysMuch) { break_off(12, filler(256)); }

TEST_P(Join, BreakingOffCountsInARowOnly) {
  for (int i = 0; i < 3 && !HasFatalFailure(); i++) {
    break_off(5, "");
    break_off(1, "STORED\r\n");
  }
}

// Which evidence counts is the mapping's to say.
class JoinMemcached : public Join {
  Config config() const override {
    Config c = default_config();
    c.mappings[0].application = DP_APP_MEMCACHED;
    return c;
  }
};
DOPPEL_ALL_MODES(JoinMemcached);

TEST_P(JoinMemcached, AlwaysWantsACommand) {
  expect_waits(client_.data(kOddLine));
  client_.answered(8);
  expect_waits(client_.data(kOddLine));
  client_.answered(8);
  expect_joins(client_.data(kGet));
}

class JoinRedis : public Join {
  Config config() const override {
    Config c = default_config();
    c.mappings[0].application = DP_APP_REDIS;
    return c;
  }
};
DOPPEL_ALL_MODES(JoinRedis);

TEST_P(JoinRedis, WantsACommandOfItsOwn) {
  for (const char *none : {"get key\r\n", "*", "*1\r\n", "*x\r\n$4\r\nPING\r\n",
                           "*0\r\n$4\r\nPING\r\n", "*123456789\r\n$4\r\nPING\r\n"}) {
    expect_waits(client_.data(none));
    client_.answered(8);
  }
  expect_joins(client_.data("*1\r\n$4\r\nPING\r\n"));
}

class JoinAny : public Join {
  Config config() const override {
    Config c = default_config();
    c.mappings[0].application = DP_APP_ANY;
    return c;
  }
};
DOPPEL_ALL_MODES(JoinAny);

TEST_P(JoinAny, GoesByAnswersAlone) {
  expect_waits(client_.data(kGet));
  expect_waits(client_.data(kGet));
  client_.answered(8);
  // The first answer may be to a request that straddled the moment of attach.
  expect_waits(client_.data(kOddLine));
  client_.answered(8);
  expect_joins(client_.data(kOddLine));
}

TEST_P(JoinAny, NotInTheMiddleOfAWrite) {
  // Segments without PSH are one write, although answers to earlier requests arrive meanwhile.
  expect_waits(client_.data(kOddLine, 0));
  for (int segment = 0; segment < 4; segment++) {
    client_.answered(8);
    expect_waits(client_.data("more of a value", 0));
  }
}

// No flow of this mapping ever speaks memcached.
class JoinOther : public Join {
  Config config() const override { return named("other"); }
};
DOPPEL_ALL_MODES(JoinOther);

TEST_P(JoinOther, AtTheFourthAnsweredTurn) {
  expect_waits(client_.data(kOddLine));
  for (int turn = 1; turn < 4; turn++) {
    client_.answered(8);
    expect_waits(client_.data("anything"));
  }
  client_.answered(8);
  expect_joins(client_.data("anything"));
}

TEST_P(JoinOther, TurnsAreCountedWithoutABreak) {
  expect_waits(client_.data(kOddLine));
  for (int turn = 0; turn < 6; turn++) {
    if (turn % 2)
      client_.answered(8);
    expect_waits(client_.data("anything"));
  }
}

class JoinUnread : public Join {
  Config config() const override { return named("unread"); }
};
DOPPEL_ALL_MODES(JoinUnread);

// The client was seen first inside of a batch of sets, in pieces. Answers to the sets before come
// ahead of two of them; the next batch tells that memcached is spoken.
TEST_P(JoinUnread, NotBetweenPiecesOfARequestThatFollowAnswers) {
  expect_waits(client_.data("0 0 6\r\n1"));
  for (const char *piece : {"23", "45"}) {
    client_.answered(8);
    expect_waits(client_.data(piece));
  }
  expect_waits(client_.data("6\r\n"));
  client_.answered(8);
  expect_joins(client_.data(kGet));
}

} // namespace
} // namespace doppel::bpftest
