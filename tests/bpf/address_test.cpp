// SPDX-License-Identifier: Apache-2.0
// Services of one port that their addresses tell apart: whose a packet is.
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

const Ip4 kOther{"10.9.0.8"}, kThird{"10.9.0.6"};

// "data" has what goes to cast().server, "other" what goes to kOther; with `rest` there is a third
// mapping, which has no address and both ports.
template <bool rest> class Addresses : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.mappings[0].address.raw = client_side(cast().server);
    MappingConfig other = c.mappings[0];
    other.name = "other";
    other.address.raw = client_side(kOther);
    other.port_last = other.port_first;
    other.targets[0].port = 31211;
    c.mappings.push_back(other);
    if (rest) {
      other.name = "rest";
      other.address = {};
      other.port_last = kPort + 1;
      other.targets[0].port = 41211;
      c.mappings.push_back(other);
    }
    return c;
  }

  // Which mapping counts what goes there; -1: none.
  int taker_of(Ip4 server, uint16_t port) {
    const unsigned mappings = rest ? 3 : 2;
    uint64_t before[3]{};
    for (unsigned m = 0; m < mappings; m++)
      before[m] = plane().cell(m).observed;
    Client c;
    c.port = unused_port();
    c.server_port = port;
    capture(between(c.data(kOdd), c.ip, server, World::families().client6)).none();
    int taker = -1;
    for (unsigned m = 0; m < mappings; m++) {
      const uint64_t more = plane().cell(m).observed - before[m];
      EXPECT_TRUE(more == 0 || (more == sizeof(kOdd) - 1 && taker < 0)) << m;
      if (more)
        taker = static_cast<int>(m);
    }
    capture(between(c.rst(), c.ip, server, World::families().client6)).none(); // it is forgotten
    return taker;
  }
};

using AddressesAlone = Addresses<false>;
using AddressesBeforeTheRest = Addresses<true>;
DOPPEL_ALL_MODES(AddressesAlone);
DOPPEL_ALL_MODES(AddressesBeforeTheRest);

TEST_P(AddressesAlone, EachHasItsOwn) {
  EXPECT_EQ(taker_of(cast().server, kPort), 0);
  EXPECT_EQ(taker_of(cast().server, kPort + 1), 0);
  EXPECT_EQ(taker_of(kOther, kPort), 1);
  EXPECT_EQ(taker_of(kOther, kPort + 1), -1);
  EXPECT_EQ(taker_of(kThird, kPort), -1);
  EXPECT_EQ(taker_of(cast().server, kPort + 2), -1);
}

TEST_P(AddressesBeforeTheRest, WhatNoAddressHasIsTheRests) {
  EXPECT_EQ(taker_of(cast().server, kPort), 0);
  EXPECT_EQ(taker_of(kOther, kPort), 1);
  EXPECT_EQ(taker_of(kOther, kPort + 1), 2);
  EXPECT_EQ(taker_of(kThird, kPort), 2);
  EXPECT_EQ(taker_of(kThird, kPort + 2), -1);
}

// A whole connection goes to its own mapping's target.
TEST_P(AddressesBeforeTheRest, CopiesGoToTheTargetOfTheAddress) {
  open();
  EXPECT_EQ(target_.port, kTargetPort);
  deliver(capture(client_.data("get k\r\n")));
  consumed(target_.ack());
  EXPECT_EQ(target_.received, "get k\r\n");
  EXPECT_EQ(shadow().ep.key.mapping, 0);
}

// An IPv4 address as IPv6 has it is IPv4's; a packet of IPv6 cannot bear it.
TEST_P(AddressesBeforeTheRest, MappedAddressIsNoWayAround) {
  if (!World::families().client6)
    return;
  Client c;
  c.port = unused_port();
  mark();
  capture(c.data(kOdd).ip6(v6_of(c.ip), "::ffff:10.9.0.9")).none();
  expect_account({});
}

} // namespace
} // namespace doppel::bpftest
