// SPDX-License-Identifier: Apache-2.0
// Captured packets that make no copy. Each goes on as it came, with every bit of its metadata,
// and the ledger says why there is no copy, or nothing where it is none of our business.
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

// Payload in mid-stream of a flow that is not known, and no place to join it.
Packet request() {
  static uint16_t port = 50000;
  Client c;
  c.port = ++port;
  return c.data(kOdd);
}

struct Row {
  const char *name;
  Packet packet;
  Counts account; // what moves in the ledger
  // BPF_PROG_RUN cannot play it: the tag is not among a packet's bytes, or there are too few.
  bool device_only = false;
};

std::vector<Row> rows() {
  const Cast &c = cast();
  const Counts malformed{{"event.malformed", 1}};
  const Packet udp =
      Packet().mac(c.client_mac, c.host_mac).ip4(c.client, c.server).udp(5000, kPort);
  return {
      {"another port", request().tcp(41000, 80), {}},
      {"port below the range", request().tcp(41000, kPort - 1), {}},
      {"port above the range", request().tcp(41000, kPort + 2), {}},
      {"from the port, not to it", request().tcp(kPort, 41000), {}},
      {"UDP", Packet(udp).payload("get k\r\n"), {}},
      {"UDP, empty", udp, {}},
      {"ICMP",
       Packet()
           .mac(c.client_mac, c.host_mac)
           .ip4(c.client, c.server)
           .protocol(1)
           .payload(Bytes(28)),
       {}},
      {"ARP", Packet().mac(c.client_mac, c.host_mac).ethertype(0x0806).l3(Bytes(46)), {}},
      {"IPv6",
       Packet()
           .mac(c.client_mac, c.host_mac)
           .ip6("fd00::50", "fd00::9")
           .tcp(41000, kPort)
           .payload(kGet),
       {}},
      {"unknown EtherType", request().ethertype(0x1234), {}},
      {"VLAN tag", request().vlan(5), {}, true},
      {"priority tag, no VLAN",
       request().vlan(0x6000),
       {{"excluded.not_joined", 7}, {"observed", 7}},
       true},
      {"QinQ", request().vlan(7, 0x88a8).vlan(5), {}, true},
      {"IPv4 header in an IPv6 type", request().ethertype(0x86dd), {}},
      {"IP version 5", request().ip_version(5), {}},
      {"IP header of 16 bytes", request().ip_header_words(4), {}},
      {"IP header of 60 bytes, packet shorter", request().ip_header_words(15).truncate(70), {}},
      {"cut off in the IP header", request().truncate(30), {}, true},
      {"cut off in the TCP header", request().truncate(45), {}},
      {"Ethernet header alone", request().truncate(14), {}, true},
      {"later fragment", request().fragment(1480, false), {}},
      {"first fragment", request().fragment(0, true), {{"excluded.fragment", 7}, {"observed", 7}}},
      {"IP options",
       request().ip_options({0x94, 4, 0, 0}),
       {{"excluded.ip_options", 7}, {"observed", 7}}},
      {"total length beyond the frame",
       request().ip_total_length(500),
       {{"excluded.truncated", 448}, {"observed", 448}}},
      {"total length below the headers", request().ip_total_length(40), malformed},
      {"total length zero", request().ip_total_length(0), malformed},
      {"TCP header of 16 bytes", request().tcp_header_words(4), malformed},
      {"TCP header longer than the packet", request().tcp_header_words(15), malformed},
      {"wrong checksum", request().wrong_l4_checksum(), {{"event.bad_checksum", 1}}},
      {"checksum of the pseudo-header alone",
       request().partial_checksum(),
       {{"event.bad_checksum", 1}}},
      {"checksum zero", request().l4_checksum(0), {{"event.bad_checksum", 1}}},
      {"from the target itself",
       request().ip4(c.target, c.server),
       {{"excluded.loop", 7}, {"observed", 7}}},
      {"last hop", request().ttl(1), {{"excluded.hops", 7}, {"observed", 7}}},
      {"no hop left", request().ttl(0), {{"excluded.hops", 7}, {"observed", 7}}},
      {"to the target's own address and port",
       request().ip4(c.client, c.target).tcp(41000, kTargetPort),
       {}},
      {"unknown flow", request(), {{"excluded.not_joined", 7}, {"observed", 7}}},
      {"unknown flow, ACK alone", request().payload(""), {}},
      {"unknown flow, FIN", request().payload("").flags(FIN), {}},
      {"unknown flow, RST", request().payload("").flags(RST), {}},
      {"SYN and ACK", request().payload("").flags(SYN), {}},
      {"SYN and FIN", request().payload("").flags(SYN | FIN), {}},
      {"all flags", request().payload("").flags(0xff), {}},
      {"no flags", request().payload("").flags(0), {}},
      {"Ethernet padding", request().payload("").options({}).padding(6), {}},
      {"padding is no payload",
       request().payload("gets").options({}).padding(2),
       {{"excluded.not_joined", 4}, {"observed", 4}}},
  };
}

class Untouched : public Session {};
DOPPEL_IPV4_MODES(Untouched);

TEST_P(Untouched, Table) {
  for (const Row &row : rows()) {
    SCOPED_TRACE(row.name);
    if (row.device_only && GetParam().way == Way::run)
      continue;
    mark();
    capture(row.packet).none();
    expect_account(row.account);
    EXPECT_EQ(moved()["opened"], 0);
  }
}

TEST_P(Untouched, RetransmissionOfAnExcludedFlowIsNotObservedTwice) {
  Client c;
  c.port = unused_port();
  const Packet p = c.data(kOdd);
  capture(p).none();
  capture(p).none();
  expect_account({{"excluded.not_joined", 7}, {"observed", 7}});
  capture(c.segment(c.next - 3, PSH, "of anot")).none();
  expect_account({{"excluded.not_joined", 11}, {"observed", 11}});
}

TEST_P(Untouched, ExcludedFlowIsForgottenAtItsEnd) {
  Client c;
  c.port = unused_port();
  capture(c.data(kOdd)).none();
  expect_flows({{"waiting", 1}});
  capture(c.fin()).none();
  expect_flows({});
}

TEST_P(Untouched, WhatIsPausedIsExcluded) {
  open();
  plane().pause(true);
  mark();
  const uint32_t seq = client_.next;
  capture(client_.data(kGet)).none();
  expect_account({{"excluded.paused", 7}, {"observed", 7}});
  // Again, and what the target has already: observed once.
  capture(client_.segment(seq, PSH, kGet)).none();
  expect_account({{"excluded.paused", 7}, {"observed", 7}});
}

} // namespace
} // namespace doppel::bpftest
