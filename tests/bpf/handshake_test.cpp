// SPDX-License-Identifier: Apache-2.0
// How a shadow opens (docs/design.md, Decisions that differ from the first design).
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

// Which options a SYN has matters, not in which order and with which padding.
const std::vector<std::string> kLayout = {"opt.kinds", "ip.length"};

class Handshake : public Session {
protected:
  // The client's SYN with these options and its ACK; what leaves after the ACK.
  Frames syn_with(const std::vector<Bytes> &options) {
    capture(client_.syn().options(options)).none();
    return capture(client_.ack());
  }
};
DOPPEL_ALL_MODES(Handshake);

TEST_P(Handshake, SynIsOnlyRemembered) {
  capture(client_.syn()).none();
  expect_account({});
  expect_flows({});
}

TEST_P(Handshake, AckOfTheClientOpensTheShadow) {
  knock();
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_EQ(target_.received_next, client_.isn + 1) << "the shadow has the client's own ISN";
  expect_account({});
  expect_flows({{"open", 1}, {"opened", 1}, {"slots", 1}});
}

TEST_P(Handshake, ShadowsSynInFull) {
  capture(client_.syn());
  const Frames sent = capture(client_.ack());
  ASSERT_EQ(sent.size(), 1u);
  target_.meets(sent[0]);
  // The order of the options is free.
  sent.are({expected().syn(1460, client_.offer.shift)}, kLayout);
  EXPECT_GE(target_.shadow_port, kShadowPort);
  EXPECT_LT(target_.shadow_port, kShadowPort + 64);
}

TEST_P(Handshake, FirstDataOpensItWhereTheAckWasNotSeen) {
  capture(client_.syn()).none();
  const Frames sent = capture(client_.data("get k\r\n"));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].flags, SYN);
  EXPECT_EQ(sent[0].seq, client_.isn);
  expect_account({{"observed", 7}, {"in_flight", 7}});
}

TEST_P(Handshake, OptionsThatTheClientDidNotOfferAreNotOffered) {
  const struct {
    const char *name;
    Offer offer;
  } rows[] = {
      {"none at all", {false, false, false, false}},
      {"only MSS", {true, false, false, false}},
      {"only timestamps", {false, false, true, false}},
      {"only SACK", {false, true, false, false}},
      {"only window scale", {false, false, false, true}},
      {"all but timestamps", {true, true, false, true}},
  };
  for (const auto &row : rows) {
    SCOPED_TRACE(row.name);
    client_.port = unused_port();
    client_.offer = row.offer;
    client_.timestamps = row.offer.timestamps;
    capture(client_.syn());
    const Frames sent = capture(client_.ack());
    ASSERT_EQ(sent.size(), 1u);
    target_.meets(sent[0]);
    sent.are({expected().syn(1460, 7)}, kLayout);
  }
}

TEST_P(Handshake, WhatCannotBeMirroredIsBlankedFromTheSyn) {
  const struct {
    const char *name;
    Bytes option;
  } rows[] = {{"TFO cookie request", opt::tfo({})},
              {"TFO cookie", opt::tfo({1, 2, 3, 4, 5, 6, 7, 8})},
              {"unknown kind", opt::unknown(253, {0xde, 0xad})}};
  for (const auto &row : rows) {
    SCOPED_TRACE(row.name);
    client_.port = unused_port();
    const Frames sent =
        syn_with({opt::mss(1460), row.option, opt::sack_ok(), opt::timestamps(7, 0)});
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_FALSE(sent[0].options.has(row.option[0]));
    EXPECT_TRUE(sent[0].options.sack_ok);
    EXPECT_TRUE(sent[0].options.timestamps);
    EXPECT_FALSE(sent[0].options.wscale);
    EXPECT_FALSE(sent[0].options.broken);
  }
}

TEST_P(Handshake, SignedConnectionsAreExcluded) {
  for (const Bytes &option : {opt::md5(), opt::ao()}) {
    mark();
    client_.port = unused_port();
    syn_with({opt::mss(1460), option}).none();
    capture(client_.data("get k\r\n")).none();
    expect_account({{"observed", 7}, {"excluded.tcp_auth", 7}});
  }
}

// RFC 8684: the connection may be one of several that make a stream, or become one.
TEST_P(Handshake, MultipathConnectionsAreExcluded) {
  for (const Bytes &option : {opt::mptcp_capable(), opt::mptcp_join()}) {
    mark();
    client_.port = unused_port();
    syn_with({opt::mss(1460), option}).none();
    for (int i = 0; i < 10; i++) {
      capture(client_.data("get k\r\n")).none();
      client_.answered(5);
    }
    expect_account({{"observed", 70}, {"excluded.mptcp", 70}});
    expect_flows({{"waiting", 1}});
  }
}

// A command of doppel's that reads from the server, and a client whose device has an odd MTU.
TEST_P(Handshake, OwnConnectionsAreLeftOut) {
  syn_with({opt::mss(DP_OWN_MSS)}).none();
  for (int i = 0; i < 10; i++) {
    capture(client_.data("get k\r\n")).none();
    client_.answered(5);
  }
  packet::Packet unreadable = client_.data(filler(368));
  unreadable.fragment(0, true);
  capture(unreadable).none();
  capture(client_.data("get k\r\n")).none();
  expect_account({{"observed", 77 + 368}, {"excluded.own", 77 + 368}});
  expect_flows({{"waiting", 1}});
  for (const uint16_t mss : {DP_OWN_MSS - 1, DP_OWN_MSS + 1}) {
    mark();
    client_.port = unused_port();
    EXPECT_EQ(syn_with({opt::mss(mss)}).size(), 1u) << mss;
  }
}

TEST_P(Handshake, BrokenOptionsInTheSynDoNoHarm) {
  const struct {
    const char *name;
    std::vector<Bytes> options;
  } rows[] = {{"length zero", {opt::mss(1460), opt::lying(8, 0, {})}},
              {"length one", {opt::lying(3, 1, {})}},
              {"length beyond the header", {opt::lying(8, 40, {1, 2})}},
              {"cut off after the kind", {opt::nop(), opt::nop(), opt::nop(), Bytes{2}}},
              {"window scale of 255", {opt::wscale(255)}},
              {"MSS of zero", {opt::mss(0)}},
              {"SACK-permitted with data", {opt::unknown(4, {1, 2})}}};
  for (const auto &row : rows) {
    SCOPED_TRACE(row.name);
    client_.port = unused_port();
    const Frames sent = syn_with(row.options);
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].flags, SYN);
    EXPECT_FALSE(sent[0].options.broken);
    EXPECT_LE(sent[0].options.wscale.value_or(0), 14);
    EXPECT_EQ(sent[0].options.mss, 1460);
  }
}

TEST_P(Handshake, RepeatedSynsAndAcksOpenOneShadow) {
  capture(client_.syn());
  capture(client_.segment(client_.isn, SYN).ack_number(0).flags(SYN)).none();
  capture(client_.ack());
  capture(client_.ack()).none();
  expect_flows({{"open", 1}, {"opened", 1}, {"slots", 1}});
}

TEST_P(Handshake, AckWithoutASynOpensNothing) {
  capture(client_.segment(5000, 0)).none();
  expect_flows({});
  expect_account({});
}

TEST_P(Handshake, AckFarFromTheSynOpensNothing) {
  capture(client_.syn());
  capture(client_.segment(client_.isn + (64u << 20), 0)).none();
  capture(client_.segment(client_.isn - 5, 0)).none();
  expect_flows({});
}

TEST_P(Handshake, DataInTheSynOpensNoShadowFromIt) {
  // TCP Fast Open: what the server did with these bytes is not known here. The flow counts as
  // older than its shadow, and joins at its next request.
  capture(client_.syn().payload("get k\r\n")).none();
  client_.next += 7;
  capture(client_.ack()).none();
  EXPECT_EQ(moved()["opened"], 0);
  const Frames sent = capture(client_.data("get l\r\n"));
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_EQ(sent[0].flags, SYN);
  EXPECT_EQ(sent[0].seq, client_.next - 7 - 1);
  EXPECT_EQ(moved()["joined"], 1);
}

TEST_P(Handshake, DataInTheSynThatTheServerTookIsInTheLedger) {
  // The client goes on behind these bytes: the server has them, and the target will not get them.
  capture(client_.syn().payload("get k\r\n")).none();
  client_.next += 7;
  capture(client_.ack()).none();
  capture(client_.data("get l\r\n"));
  EXPECT_EQ(moved()["observed"], 14);
  EXPECT_EQ(moved()["excluded.not_joined"], 7);
}

TEST_P(Handshake, SynAckIsAnsweredAtOnce) {
  knock();
  ASSERT_FALSE(HasFatalFailure());
  consumed(target_.syn_ack()).are({expected().made(client_.isn + 1, 0)});
  EXPECT_EQ(shadow().tcp.state, DP_ESTABLISHED);
  EXPECT_EQ(moved()["responses"], 1);
}

TEST_P(Handshake, TargetThatLacksAnOption) {
  const struct {
    const char *name;
    Offer offer;
  } rows[] = {
      {"none at all", {false, false, false, false}}, {"only MSS", {true, false, false, false}},
      {"no timestamps", {true, true, false, true}},  {"no window scale", {true, true, true, false}},
      {"no SACK", {true, false, true, true}},        {"MSS of 500", {true, true, true, true, 500}},
  };
  for (const auto &row : rows) {
    SCOPED_TRACE(row.name);
    next_client();
    target_.offer = row.offer;
    open();
    ASSERT_FALSE(HasFatalFailure());
    const Packet original = client_.data("set k 0 0 1\r\nx\r\n");
    capture(original).are({expected().copy_of(original, "set k 0 0 1\r\nx\r\n")});
  }
}

TEST_P(Handshake, OptionsOfTheSynAckThatWereNotOfferedAreIgnored) {
  client_.offer = {true, false, false, false};
  client_.timestamps = false;
  open();
  ASSERT_FALSE(HasFatalFailure());
  // The target told of a window scale that nobody asked for: windows count as they are.
  consumed(target_.ack().window(100)).none();
  const Frames sent = capture(client_.data(filler(1000)));
  ASSERT_EQ(sent.size(), 1u) << sent.text();
  EXPECT_EQ(sent[0].payload.size(), 100u);
}

TEST_P(Handshake, SynAckAgainIsAcknowledgedAgain) {
  open();
  ASSERT_FALSE(HasFatalFailure());
  consumed(target_.syn_ack()).are({expected().made(client_.isn + 1, 0)});
  EXPECT_EQ(shadow().tcp.state, DP_ESTABLISHED);
}

TEST_P(Handshake, OldConnectionOfTheTargetIsResetFirst) {
  // RFC 9293, 3.5.2: the answer to our SYN acknowledges something else.
  knock();
  ASSERT_FALSE(HasFatalFailure());
  const Frames sent = consumed(target_.segment(777, 0).ack(424242));
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_TRUE(sent[0].has(RST));
  EXPECT_EQ(sent[0].seq, 424242u);
  EXPECT_EQ(sent[1].flags, SYN);
  EXPECT_EQ(sent[1].seq, client_.isn);
  EXPECT_EQ(moved()["event.half_open_reset"], 1);
  consumed(target_.syn_ack()).are({expected().made(client_.isn + 1, 0)});
}

TEST_P(Handshake, PortOfTheRangeGoesToThePortBesideTheTargets) {
  client_.server_port = kPort + 1;
  target_.port = kTargetPort + 1;
  open();
}

} // namespace
} // namespace doppel::bpftest
