// SPDX-License-Identifier: Apache-2.0
// What only IPv6 has: extension headers, and addresses that it must not have. What all packets have
// in common is tested by the other suites in both IP versions.
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr uint8_t kHopByHop = 0, kRouting = 43, kDestination = 60, kAuthentication = 51;
const Bytes kPadN{1, 4, 0, 0, 0, 0};

class Ipv6 : public Session {};
INSTANTIATE_TEST_SUITE_P(Modes, Ipv6,
                         testing::Values(kModes[4], kModes[6],
                                         Mode{AttachMode::clsact, Way::hook, {true, true}},
                                         Mode{AttachMode::tcx, Way::hook, {true, false}}),
                         name_of);

// Payload in mid-stream of a flow that is not known, and no place to join it.
Packet request() {
  Client c;
  c.port = unused_port();
  return c.data(kOdd);
}

TEST_P(Ipv6, Untouched) {
  const Cast &c = cast();
  const Counts malformed{{"event.malformed", 1}};
  const Counts odd{{"excluded.ip_options", 7}, {"observed", 7}};
  const struct {
    const char *name;
    Packet packet;
    Counts account;
    bool device_only = false;
  } rows[] = {
      {"another port", request().tcp(41000, 80), {}},
      {"UDP", request().options({}).udp(5000, kPort), {}},
      {"ICMPv6", request().protocol(58), {}},
      {"no next header", request().protocol(59), {}},
      {"IPv6 header in an IPv4 type", request().ethertype(0x0800), {}},
      {"IP version 5", request().ip_version(5), {}},
      {"cut off in the IP header", request().truncate(50), {}, true},
      {"cut off in the TCP header", request().truncate(65), {}},
      {"VLAN tag", request().vlan(5), {}, true},
      {"later fragment", request().fragment(1480, false), {}},
      {"first fragment", request().fragment(0, true), {{"excluded.fragment", 7}, {"observed", 7}}},
      {"a fragment that is all", request().fragment(0, false), odd},
      {"hop-by-hop options", request().extension(kHopByHop, kPadN), odd},
      {"destination options", request().extension(kDestination, kPadN), odd},
      {"routing header at its end", request().extension(kRouting, {0, 0, 0, 0, 0, 0}), odd},
      {"routing header that leads on", request().extension(kRouting, {0, 1, 0, 0, 0, 0}), {}},
      {"authentication header", request().extension(kAuthentication, Bytes(14)), {}},
      {"extension header beyond the packet",
       request().extension(kDestination, Bytes(200)).truncate(100),
       {}},
      {"payload length beyond the frame",
       request().ip_total_length(500),
       {{"excluded.truncated", 468}, {"observed", 468}}},
      {"payload length below the headers", request().ip_total_length(20), malformed},
      {"payload length zero", request().ip_total_length(0), malformed},
      {"TCP header of 16 bytes", request().tcp_header_words(4), malformed},
      {"TCP header longer than the packet", request().tcp_header_words(15), malformed},
      {"wrong checksum", request().wrong_l4_checksum(), {{"event.bad_checksum", 1}}},
      {"checksum of the pseudo-header alone",
       request().partial_checksum(),
       {{"event.bad_checksum", 1}}},
      {"from an IPv4 address", request().ip6("::ffff:10.9.0.50", v6_of(c.server)), {}},
      {"to an IPv4 address", request().ip6(v6_of(c.client), "::ffff:10.9.0.9"), {}},
      {"last hop", request().ttl(1), {{"excluded.hops", 7}, {"observed", 7}}},
      {"unknown flow", request(), {{"excluded.not_joined", 7}, {"observed", 7}}},
  };
  for (const auto &row : rows) {
    SCOPED_TRACE(row.name);
    if (row.device_only && GetParam().way == Way::run)
      continue;
    mark();
    capture(row.packet).none();
    expect_account(row.account);
  }
}

TEST_P(Ipv6, TooManyExtensionHeadersAreNotWalked) {
  Packet p = request();
  for (int i = 0; i < 8; i++)
    p.extension(kDestination, kPadN);
  mark();
  capture(p).none();
  expect_account({{"excluded.ip_options", 7}, {"observed", 7}});
  mark();
  Packet more = request();
  for (int i = 0; i < 9; i++)
    more.extension(kDestination, kPadN);
  capture(more).none();
  expect_account({});
}

// Its class and flow label are of the client's path.
TEST_P(Ipv6, FlowLabelOfTheClientIsForgotten) {
  open();
  Packet original = client_.data(kGet);
  original.flow_label(0x12345);
  capture(original).are({expected().copy_of(original, kGet)});
}

} // namespace
} // namespace doppel::bpftest
