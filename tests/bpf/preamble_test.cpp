// SPDX-License-Identifier: Apache-2.0
// What a shadow that joins says before the client's bytes (bpf/tcp/preamble.bpf.h), and what the
// target answers with.
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr char kAuth[] = "AUTH secret\r\n";
constexpr uint32_t kAuthSize = sizeof kAuth - 1;
constexpr int64_t kGetSize = sizeof kGet - 1;

class PreambleSent : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.mappings[0].targets[0].preamble = kAuth;
    return c;
  }
  // A connection that is older than the mirror: its shadow's SYN is out.
  void join() {
    first_ = client_.next;
    const Frames sent = capture(client_.data(kGet));
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].flags, SYN);
    EXPECT_EQ(sent[0].seq, first_ - kAuthSize - 1);
    target_.meets(sent[0]);
    target_.received_next = sent[0].seq + 1;
  }
  View preamble() { return expected().made(first_ - kAuthSize, PSH, kAuth); }
  uint32_t first_ = 0; // sequence number of the client's first byte
};
DOPPEL_ALL_MODES(PreambleSent);

TEST_P(PreambleSent, BeforeTheClientsBytesAndInNoLedger) {
  mark();
  join();
  const Frames auth = consumed(target_.syn_ack());
  auth.are({preamble()});
  capture(client_.data(kGet)).none();
  deliver(auth);
  const Frames sent = consumed(target_.response("+OK\r\n"));
  sent.are({expected().made(first_, PSH, std::string(kGet) + kGet)});
  expect_account({{"in_flight", 2 * kGetSize}, {"observed", 2 * kGetSize}});
  deliver(sent);
  consumed(target_.ack()).none();
  expect_account({{"delivered", 2 * kGetSize}, {"observed", 2 * kGetSize}});
  EXPECT_EQ(moved()["joined"], 1);
  const Packet next = client_.data(kGet);
  capture(next).are({expected().copy_of(next, kGet)});
}

TEST_P(PreambleSent, OnceMoreWhereTheSynAckComesAgain) {
  join();
  const Packet syn_ack = target_.syn_ack();
  consumed(syn_ack).are({preamble()});
  consumed(syn_ack).are({preamble()});
}

TEST_P(PreambleSent, NotOnceMoreForEachSyn) {
  join();
  consumed(target_.syn_ack());
  size_t sent = 0;
  for (uint32_t i = 0; i < 20; i++)
    sent += consumed(target_.segment(i * 77777, 0).flags(SYN)).size();
  EXPECT_LT(sent, 10u) << "one in half a second";
}

TEST_P(PreambleSent, NoOtherAcknowledgementEndsIt) {
  join();
  consumed(target_.syn_ack());
  for (const uint32_t ack : {first_ - 1, first_ + 1, first_ + (1u << 20)})
    consumed(target_.segment(target_.next, 0).ack(ack)).none();
  EXPECT_EQ(shadow().tcp.state, DP_SYN_SENT);
  const Frames sent = consumed(target_.segment(target_.next, 0).ack(first_));
  sent.are({expected().made(first_, PSH, kGet)});
}

TEST_P(PreambleSent, ARefusalLosesWhatWaits) {
  join();
  consumed(target_.syn_ack());
  mark();
  consumed(target_.segment(target_.next + 5, RST)).none();
  EXPECT_EQ(moved()["lost.target_reset"], 0) << "not where the next byte would be";
  consumed(target_.segment(target_.next, RST)).none();
  EXPECT_EQ(moved()["lost.target_reset"], kGetSize);
}

TEST_P(PreambleSent, NotByAConnectionThatBeginsUnderTheMirror) {
  open();
  deliver(capture(client_.data(kGet)));
  EXPECT_EQ(target_.received, kGet);
}

class Answers : public Session {
protected:
  void begin() override { open(); }
};
DOPPEL_ALL_MODES(Answers);

TEST_P(Answers, ThatAreErrors) {
  for (const char *error :
       {"ERROR\r\n", "CLIENT_ERROR bad\r\n", "SERVER_ERROR out of memory\r\n", "-ERR no\r\n",
        "-NOAUTH Authentication required.\r\n", "HTTP/1.1 503 Service Unavailable\r\n\r\n"}) {
    SCOPED_TRACE(error);
    mark();
    consumed(target_.response(error));
    EXPECT_EQ(moved()["event.error_answer"], 1);
    EXPECT_EQ(moved()["answers"], 1);
  }
  std::string binary(24, '\0');
  binary[0] = '\x81';
  binary[7] = '\x20'; // authentication error
  consumed(target_.response(binary));
  EXPECT_EQ(moved()["event.error_answer"], 2);
}

TEST_P(Answers, ThatAreNone) {
  std::string binary(24, '\0');
  binary[0] = '\x81';
  binary[7] = '\x01'; // there is no such key
  for (const std::string &answer :
       {std::string("END\r\n"), std::string("STORED\r\n"), std::string("+OK\r\n"),
        std::string("-1"), std::string("-12345\r\n"), std::string("HTTP/1.1 404 Not Found\r\n\r\n"),
        std::string("E"), std::string("HTTP/1"), std::string("\x81"), binary}) {
    SCOPED_TRACE(answer);
    mark();
    consumed(target_.response(answer));
    EXPECT_EQ(moved()["event.error_answer"], 0);
    EXPECT_EQ(moved()["answers"], 1);
  }
}

TEST_P(Answers, AreCountedOnce) {
  mark();
  const Packet error = target_.response("ERROR\r\n");
  consumed(error);
  consumed(error);
  EXPECT_EQ(moved()["event.error_answer"], 1);
  EXPECT_EQ(moved()["answers"], 1);
}

} // namespace
} // namespace doppel::bpftest
