// SPDX-License-Identifier: Apache-2.0
// How a shadow ends (docs/design.md, The shadow; RFC 9293, 3.10).
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr int64_t kGetSize = sizeof kGet - 1;

class Close : public Session {
protected:
  // Established, one request sent and acknowledged.
  void open_and_use() {
    open();
    deliver(capture(client_.data(kGet)));
    consumed(target_.ack()).none();
    mark();
  }
  void expect_closed() {
    expect_flows({{"closed", 1}, {"open", -1}, {"slots", -1}});
    EXPECT_TRUE(plane().open_slots().empty());
    EXPECT_EQ(new_store_entries(), 0);
  }
  void expect_broken() {
    expect_flows({{"broken", 1}, {"open", -1}, {"slots", -1}, {"waiting", 1}});
    EXPECT_TRUE(plane().open_slots().empty());
    EXPECT_EQ(new_store_entries(), 0);
  }
  // Closed in order, and its flow goes on.
  void expect_retired() {
    expect_flows({{"closed", 1}, {"open", -1}, {"slots", -1}, {"waiting", 1}});
    EXPECT_TRUE(plane().open_slots().empty());
    EXPECT_EQ(new_store_entries(), 0);
  }
  // The request opens a shadow at once, and reaches the target.
  void expect_resumes(const Packet &p) {
    const View request = parse(p.build());
    mark();
    const Frames sent = capture(p);
    ASSERT_EQ(sent.size(), 1u) << sent.text();
    EXPECT_EQ(sent[0].flags, SYN);
    EXPECT_EQ(sent[0].seq, request.seq - 1);
    EXPECT_TRUE(sent[0].faults.empty());
    EXPECT_EQ(moved()["event.resumed"], 1);
    target_ = Target{};
    target_.meets(sent[0]);
    deliver(consumed(target_.syn_ack()));
    consumed(target_.ack()).none();
    EXPECT_EQ(target_.received, std::string(request.payload.begin(), request.payload.end()));
    expect_account({{"delivered", static_cast<int64_t>(request.payload.size())},
                    {"event.resumed", 1},
                    {"observed", static_cast<int64_t>(request.payload.size())}});
  }
};
DOPPEL_ALL_MODES(Close);

TEST_P(Close, FinHandshake) {
  open_and_use();
  const Frames fin = capture(client_.fin());
  fin.are({expected().made(client_.next - 1, FIN)});
  deliver(fin);
  consumed(target_.ack()).none();
  consumed(target_.fin()).are({expected().made(client_.next, 0)});
  expect_closed();
  EXPECT_EQ(new_flow_entries(), 0) << "a closed flow is forgotten";
}

TEST_P(Close, ATargetThatGoesOnTalkingKeepsNothing) {
  open_and_use();
  deliver(capture(client_.fin()));
  consumed(target_.ack()).none();
  const uint64_t due = shadow().tcp.due_ns;
  ASSERT_NE(due, 0u);
  for (int i = 0; i < 3; i++) {
    consumed(target_.response("more and more"));
    EXPECT_EQ(shadow().tcp.due_ns, due) << "when it is over";
  }
}

TEST_P(Close, FinWithPayload) {
  open_and_use();
  deliver(capture(client_.data("quit\r\n", PSH | FIN)));
  client_.next++;
  EXPECT_EQ(target_.received, std::string(kGet) + "quit\r\n");
  EXPECT_EQ(target_.received_next, client_.next) << "the FIN follows the last byte";
  consumed(target_.fin()).are({expected().made(client_.next, 0)});
  expect_closed();
  EXPECT_EQ(moved()["delivered"], 6);
}

TEST_P(Close, FinBeforeTheTargetsSynAck) {
  knock();
  capture(client_.data(kGet)).none();
  capture(client_.fin()).none();
  deliver(consumed(target_.syn_ack()));
  for (int i = 0; i < 3 && target_.received_next != client_.next; i++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, kGet);
  EXPECT_EQ(target_.received_next, client_.next);
  mark();
  consumed(target_.fin()).are({expected().made(client_.next, 0)});
  expect_closed();
}

TEST_P(Close, FinWaitsForTheWindow) {
  open_and_use();
  target_.window = 0;
  consumed(target_.ack());
  capture(client_.data(kGet)).none();
  capture(client_.fin()).none();
  target_.window = 502;
  deliver(consumed(target_.ack()));
  for (int i = 0; i < 3 && target_.received_next != client_.next; i++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received_next, client_.next);
}

TEST_P(Close, FinBeyondAHoleWaitsForIt) {
  open_and_use();
  const uint32_t hole = client_.next;
  client_.next += 6;
  capture(client_.data("second", PSH | FIN)).none();
  client_.next++;
  deliver(capture(client_.segment(hole, PSH, "first ")));
  for (int i = 0; i < 4 && target_.received_next != client_.next; i++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, std::string(kGet) + "first second");
  EXPECT_EQ(target_.received_next, client_.next);
}

TEST_P(Close, PayloadBehindAFinIsNotTaken) {
  // No client sends it; the source ignores it (RFC 9293, 3.10.7.4), and it may not fill the store.
  open_and_use();
  const std::string text = filler(1400);
  deliver(capture(client_.data(text)));
  deliver(capture(client_.fin()));
  const int64_t observed = moved()["observed"];
  for (uint32_t i = 0; i < 6; i++)
    capture(client_.segment(client_.next + i * 1400, PSH, text)).none();
  EXPECT_EQ(moved()["observed"], observed);
  consumed(target_.fin());
  expect_closed();
}

TEST_P(Close, RepeatedFinIsSentOnce) {
  open_and_use();
  deliver(capture(client_.fin()));
  capture(client_.segment(client_.next - 1, FIN)).none();
  capture(client_.ack()).none();
}

TEST_P(Close, TargetsFinFirst) {
  // Nothing is under way: an ordinary close, and the client's next request opens the next shadow.
  open_and_use();
  const Frames fin = consumed(target_.fin());
  fin.are({expected().made(client_.next, FIN)});
  EXPECT_EQ(shadow().tcp.state, DP_LAST_ACK);
  deliver(fin);
  consumed(target_.ack()).none();
  expect_retired();
  expect_resumes(client_.data(kGet));
}

TEST_P(Close, RequestWhileTheAnswerToTheTargetsFinIsUnderWay) {
  open_and_use();
  Target former = target_;
  const Frames fin = consumed(former.fin());
  expect_resumes(client_.data(kGet));
  ASSERT_FALSE(HasFatalFailure());
  for (const View &v : fin)
    EXPECT_EQ(former.takes(v), "");
  consumed(former.ack()).none();
  EXPECT_EQ(moved()["closed"], 1);
  EXPECT_EQ(moved()["waiting"], 0);
  EXPECT_EQ(new_flow_entries(), 1) << "its end took the flow along, which is another shadow's";
}

TEST_P(Close, TargetsRstAtRest) {
  open_and_use();
  consumed(target_.rst()).none();
  expect_retired();
  expect_resumes(client_.data(kGet));
}

TEST_P(Close, TargetsFinAfterTheLastAcknowledgement) {
  // The answer, the acknowledgement and the FIN in one packet.
  open_and_use();
  deliver(capture(client_.data(kGet)));
  const Frames fin = consumed(target_.segment(target_.next, PSH | FIN, "END\r\n"));
  target_.next += 6;
  fin.are({expected().made(client_.next, FIN)});
  deliver(fin);
  consumed(target_.ack()).none();
  EXPECT_EQ(moved()["delivered"], kGetSize);
  EXPECT_EQ(moved()["closed"], 1);
  client_.answered(5);
  expect_resumes(client_.data(kGet));
}

TEST_P(Close, TargetsFinInTheMiddleOfAWrite) {
  // Without PSH the client's write is not over: what follows is no beginning.
  open_and_use();
  deliver(capture(client_.data("set k 0 0 9\r\n", 0)));
  consumed(target_.ack()).none();
  mark();
  deliver(consumed(target_.fin()));
  consumed(target_.ack()).none();
  expect_retired();
  capture(client_.data("123456789\r\n")).none();
  expect_account({{"excluded.not_joined", 11}, {"observed", 11}});
}

TEST_P(Close, BothAfterEachOther) {
  open_and_use();
  deliver(consumed(target_.fin()));
  capture(client_.fin()).none();
  consumed(target_.ack()).none();
  expect_closed();
  EXPECT_EQ(new_flow_entries(), 0) << "a closed flow is forgotten";
}

TEST_P(Close, ClientsFinWhileTheFlowWaits) {
  open_and_use();
  consumed(target_.rst()).none();
  expect_retired();
  capture(client_.fin()).none();
  EXPECT_EQ(new_flow_entries(), 0);
}

TEST_P(Close, TargetsFinBehindAPartOfTheRequest) {
  // What it took of it is gone with the connection, so the rest is no beginning. It did not fail.
  open_and_use();
  deliver(capture(client_.data("set k 0 0 9\r\n")));
  capture(client_.data("123456789\r\n"));
  consumed(target_.ack()).none();
  mark();
  consumed(target_.fin());
  consumed(target_.rst()).none();
  expect_broken();
  expect_account({{"in_flight", -11}, {"lost.target_closed", 11}});
  mark();
  client_.answered(5);
  const Frames sent = capture(client_.data(kGet));
  ASSERT_EQ(sent.size(), 1u) << "a boundary is enough";
  EXPECT_EQ(sent[0].flags, SYN);
}

// The request crossed the target's end of the connection: a new one takes it.
TEST_P(Close, RequestThatCrossedTheTargetsFin) {
  open_and_use();
  const uint32_t seq = client_.next;
  const std::string text = filler(1400);
  capture(client_.data(text, 0));
  capture(client_.data(text));
  mark();
  const Frames sent = consumed(target_.fin()); // acknowledges none of it
  ASSERT_EQ(sent.size(), 2u) << sent.text();
  EXPECT_EQ(sent[0].flags, RST | ACK);
  EXPECT_EQ(sent[1].flags, SYN);
  EXPECT_EQ(sent[1].seq, seq - 1);
  expect_flows({{"closed", 1}, {"joined", 1}});
  const uint16_t former = target_.shadow_port;
  target_ = Target{};
  target_.meets(sent[1]);
  EXPECT_NE(target_.shadow_port, former);
  deliver(consumed(target_.syn_ack()));
  consumed(target_.ack()).none();
  EXPECT_EQ(target_.received, text + text);
  expect_account({{"delivered", 2800}, {"event.resumed", 1}, {"in_flight", -2800}});
  const Packet next = client_.data(kGet);
  capture(next).are({expected().copy_of(next, kGet)});
}

TEST_P(Close, RequestThatFoundNoConnection) {
  // A RST that acknowledges nothing: the target had closed before.
  open_and_use();
  const uint32_t seq = client_.next;
  capture(client_.data(kGet));
  const Frames sent = consumed(target_.rst());
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_EQ(sent[0].flags, SYN);
  EXPECT_EQ(sent[0].seq, seq - 1);
  target_ = Target{};
  target_.meets(sent[0]);
  capture(client_.fin()).none();
  mark();
  deliver(consumed(target_.syn_ack()));
  deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, kGet);
  EXPECT_EQ(target_.received_next, client_.next) << "the client's FIN follows";
}

TEST_P(Close, RequestIsCarriedOnce) {
  // The new connection, which has taken nothing, ends in the same way: it is the request, perhaps.
  open_and_use();
  capture(client_.data(kGet));
  const Frames sent = consumed(target_.rst());
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  target_ = Target{};
  target_.meets(sent[0]);
  consumed(target_.syn_ack());
  mark();
  consumed(target_.rst()).none();
  expect_broken();
  expect_account({{"in_flight", -kGetSize}, {"lost.target_reset", kGetSize}});
}

TEST_P(Close, BothAtOnce) {
  open_and_use();
  deliver(capture(client_.fin()));
  // The target's FIN does not acknowledge ours.
  target_.received_next--;
  consumed(target_.fin()).are({expected().made(client_.next, 0)});
  target_.received_next++;
  consumed(target_.ack()).none();
  expect_closed();
}

// A RST of the client closes the shadow in order: a target that was reset while it still works on
// what it acknowledged would drop it, and the source did not.
TEST_P(Close, ClientsRstAfterAllIsAcknowledged) {
  open_and_use();
  const Frames sent = capture(client_.rst());
  sent.are({expected().made(client_.next, FIN)});
  deliver(sent);
  client_.next++;
  consumed(target_.fin()).are({expected().made(client_.next, 0)});
  expect_closed();
}

TEST_P(Close, ClientsRstDrainsFirst) {
  open_and_use();
  target_.window = 0;
  consumed(target_.ack());
  capture(client_.data(kGet)).none();
  capture(client_.rst()).none();
  target_.window = 502;
  for (int i = 0; i < 3; i++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, std::string(kGet) + kGet);
  EXPECT_EQ(target_.received_next, client_.next + 1);
  client_.next++;
  consumed(target_.fin()).are({expected().made(client_.next, 0)});
  expect_closed();
  EXPECT_EQ(moved()["delivered"], kGetSize);
}

TEST_P(Close, ClientsRstWhileTheHandshakeLasts) {
  knock();
  capture(client_.data(kGet)).none();
  capture(client_.rst()).none();
  deliver(consumed(target_.syn_ack()));
  for (int i = 0; i < 3; i++)
    deliver(consumed(target_.ack()));
  EXPECT_EQ(target_.received, kGet) << "the source got it, so the target shall";
  EXPECT_EQ(target_.received_next, client_.next + 1);
}

TEST_P(Close, ClientsRstOutOfPlaceIsIgnored) {
  // RFC 5961, 3.2: the source would challenge it.
  open_and_use();
  capture(client_.segment(client_.next + 5, RST)).none();
  capture(client_.segment(client_.next - 5, RST)).none();
  EXPECT_EQ(shadow().tcp.state, DP_ESTABLISHED);
  EXPECT_FALSE(shadow().tcp.flags & DP_SH_CLIENT_RST);
}

TEST_P(Close, TargetRefuses) {
  knock();
  capture(client_.data(kGet)).none();
  mark();
  // A RST to a SYN has sequence number 0 and acknowledges it.
  consumed(target_.segment(0, RST)).none();
  expect_broken();
  expect_account({{"in_flight", -kGetSize}, {"lost.target_refused", kGetSize}});
  capture(client_.data(kGet)).none();
  EXPECT_EQ(moved()["excluded.backoff"], kGetSize) << "left alone for a while";
}

TEST_P(Close, TargetResets) {
  open_and_use();
  deliver(capture(client_.data(kGet)));
  mark();
  consumed(target_.rst()).none();
  expect_broken();
  expect_account({{"in_flight", -kGetSize}, {"lost.target_reset", kGetSize}});
}

TEST_P(Close, TargetResetsAfterClosing) {
  open_and_use();
  deliver(capture(client_.data(kGet)));
  target_.received_next -= 2; // all but the last bytes
  consumed(target_.ack()).none();
  consumed(target_.fin());
  mark();
  consumed(target_.rst()).none();
  expect_broken();
  expect_account({{"in_flight", -2}, {"lost.target_closed", 2}});
}

TEST_P(Close, BytesAfterABreakAreExcludedOnce) {
  open_and_use();
  deliver(capture(client_.data(kGet)));
  consumed(target_.rst()).none();
  mark();
  const uint32_t seq = client_.next;
  capture(client_.data(kGet)).none();
  capture(client_.segment(seq, PSH, kGet)).none();
  expect_account({{"excluded.backoff", kGetSize}, {"observed", kGetSize}});
}

TEST_P(Close, LateResponsesAreSwallowed) {
  open_and_use();
  deliver(capture(client_.fin()));
  consumed(target_.fin());
  mark();
  // Our last ACK was lost: the FIN comes again and gets it again.
  consumed(target_.segment(target_.next - 1, FIN)).are({expected().made(client_.next, 0)});
  consumed(target_.response("late")).none();
  EXPECT_EQ(moved()["event.late_response"], 2);
}

// Behind capture the client's last segments may be lost, or an answer to them: it sends them again
// when the shadow is over.
TEST_P(Close, WhatComesAgainBehindTheEndIsNotDoneTwice) {
  open_and_use();
  const Packet again = client_.segment(client_.next - kGetSize, PSH | FIN, kGet);
  deliver(capture(client_.fin()));
  consumed(target_.fin());
  mark();
  capture(again).none();
  expect_account({{"event.client_retransmit", 1}});
  expect_flows({});
  EXPECT_EQ(new_flow_entries(), 0);
}

TEST_P(Close, WhatComesAgainUnreadableBehindTheEndIsCountedOnce) {
  open_and_use();
  Packet again = client_.segment(client_.next - kGetSize, PSH | FIN, kGet);
  again.ip_options({0x94, 0x04, 0x00, 0x00}); // router alert
  deliver(capture(client_.fin()));
  consumed(target_.fin());
  mark();
  capture(again).none();
  expect_account({{"event.client_retransmit", 1}});
  EXPECT_EQ(new_flow_entries(), 0);
}

TEST_P(Close, WhatComesAgainBehindTheEndOfAFlowThatWaitedIsNotDoneAtAll) {
  open_and_use();
  consumed(target_.rst()).none();
  const Packet again = client_.segment(client_.next - kGetSize, PSH | FIN, kGet);
  capture(client_.fin()).none();
  mark();
  capture(again).none();
  expect_account({{"event.client_retransmit", 1}});
  expect_flows({});
}

TEST_P(Close, NewConnectionOnTheSamePortAfterAClose) {
  open_and_use();
  deliver(capture(client_.fin()));
  consumed(target_.fin());
  const uint16_t former = target_.shadow_port;
  client_.isn = client_.next = 2000000;
  client_.tsval += 1000;
  target_ = Target{};
  mark();
  open();
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_NE(target_.shadow_port, former) << "a shadow port rests as long as possible";
  const Packet original = client_.data(kGet);
  capture(original).are({expected().copy_of(original, kGet)});
  expect_flows({{"open", 1}, {"opened", 1}, {"slots", 1}});
}

TEST_P(Close, NewConnectionSupersedesOneThatWasNotClosed) {
  open_and_use();
  deliver(capture(client_.data(kGet)));
  capture(client_.segment(client_.next + 10, PSH, "beyond")).none(); // a hole that nobody fills
  mark();
  Target former = target_;
  client_.isn = client_.next = 0x70000000;
  target_ = Target{};
  capture(client_.syn()).none();
  // The former connection drains and closes by itself.
  const Frames sent = capture(client_.ack());
  ASSERT_EQ(sent.size(), 2u) << sent.text();
  const bool first = sent[0].sport == former.shadow_port;
  const View &end = sent[first ? 0 : 1], &begin = sent[first ? 1 : 0];
  EXPECT_EQ(begin.flags, SYN);
  EXPECT_EQ(begin.seq, client_.isn);
  EXPECT_EQ(end.flags, FIN | ACK);
  EXPECT_EQ(end.sport, former.shadow_port);
  expect_account({});
  expect_flows({{"open", 1}, {"opened", 1}, {"slots", 1}});
  EXPECT_EQ(new_flow_entries(), 1);

  EXPECT_EQ(former.takes(end), "");
  consumed(former.fin());
  EXPECT_EQ(moved()["delivered"], kGetSize);
  EXPECT_EQ(moved()["closed"], 1);
  EXPECT_EQ(new_flow_entries(), 1) << "its end took the new connection's flow along";
  target_.meets(begin);
  consumed(target_.syn_ack()).are({expected().made(client_.isn + 1, 0)});
}

TEST_P(Close, SynAloneDoesNotSupersede) {
  // Anyone can send a SYN; the shadow stays until its handshake is complete.
  open_and_use();
  const Client honest = client_;
  client_.isn = 0x70000000;
  capture(client_.syn()).none();
  client_ = honest;
  const Packet original = client_.data(kGet);
  capture(original).are({expected().copy_of(original, kGet)});
}

} // namespace
} // namespace doppel::bpftest
