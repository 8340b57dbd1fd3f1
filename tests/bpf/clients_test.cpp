// SPDX-License-Identifier: Apache-2.0
// Clients that the lists of a mapping leave out.
#include <arpa/inet.h>

#include <memory>
#include <vector>

#include "tests/bpf/left_out.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

// All addresses that begin as the client's do.
Prefix around_client(unsigned v4_bits, unsigned v6_bits) {
  const Address client{client_side(cast().client)};
  return Prefix{client.family(), client, client.is_v4() ? v4_bits : v6_bits}.trimmed();
}
Prefix the_client() { return around_client(32, 128); }
Prefix its_net() { return around_client(24, 64); }
Prefix all_of_its_family() { return around_client(0, 0); }
Prefix all_of_the_other() {
  const bool v4 = Address{client_side(cast().client)}.is_v4();
  return {v4 ? Family::v6 : Family::v4, v4 ? Address{} : Address::v4(0), 0};
}

// A neighbour, as near as can be.
Prefix its_neighbour() {
  Prefix p = the_client();
  p.address.raw.w[3] ^= htonl(1);
  return p;
}

class Listed : public LeftOut {
protected:
  std::string reason() const override { return "client_list"; }
  using Entries = std::vector<ClientList::Entry>;
  virtual Entries entries() const = 0;
  Config config() const override {
    Config c = default_config();
    c.mappings[0].clients = std::make_shared<const ClientList>(entries());
    return c;
  }
  void expect_mirrored() {
    open();
    deliver(capture(client_.data(kGet)));
    consumed(target_.ack());
    expect_account({{"observed", 7}, {"delivered", 7}});
  }
};

class Excluded : public Listed {
  Entries entries() const override { return {{its_net(), false}}; }
};
DOPPEL_ALL_MODES(Excluded);

TEST_P(Excluded, EachByteIsCountedOnce) { expect_each_byte_once(); }
TEST_P(Excluded, DoesNotJoin) { expect_no_join(); }
TEST_P(Excluded, WhatCannotBeReadIsLeftOutAsWell) { expect_unreadable_as_well(); }

TEST_P(Excluded, AResetEndsIt) {
  expect_not_mirrored();
  capture(client_.rst()).none();
  EXPECT_EQ(new_flow_entries(), 0);
}

class LongerIncluded : public Listed {
  Entries entries() const override {
    return {{all_of_its_family(), true}, {its_net(), false}, {the_client(), true}};
  }
};
DOPPEL_ALL_MODES(LongerIncluded);
TEST_P(LongerIncluded, TheLongestPrefixDecides) { expect_mirrored(); }

class LongerExcluded : public Listed {
  Entries entries() const override {
    return {{all_of_its_family(), false}, {its_net(), true}, {the_client(), false}};
  }
};
DOPPEL_ALL_MODES(LongerExcluded);
TEST_P(LongerExcluded, TheLongestPrefixDecides) { expect_not_mirrored(); }

class NeighbourExcluded : public Listed {
  Entries entries() const override { return {{its_neighbour(), false}}; }
};
DOPPEL_ALL_MODES(NeighbourExcluded);
TEST_P(NeighbourExcluded, EachBitCounts) { expect_mirrored(); }

class NeighbourIncluded : public Listed {
  Entries entries() const override { return {{its_neighbour(), true}}; }
};
DOPPEL_ALL_MODES(NeighbourIncluded);
TEST_P(NeighbourIncluded, OthersAreNotMirrored) { expect_not_mirrored(); }

// Also ::/0, in which each IPv4 client would be that is written as an address of IPv6.
class OtherFamilyExcluded : public Listed {
  Entries entries() const override { return {{all_of_the_other(), false}}; }
};
DOPPEL_ALL_MODES(OtherFamilyExcluded);
TEST_P(OtherFamilyExcluded, FamiliesAreApart) { expect_mirrored(); }

class OtherFamilyIncluded : public Listed {
  Entries entries() const override { return {{all_of_the_other(), true}}; }
};
DOPPEL_ALL_MODES(OtherFamilyIncluded);
TEST_P(OtherFamilyIncluded, FamiliesAreApart) { expect_not_mirrored(); }

// Several copies of a connection are left out as often as they would be made.
class ExcludedCopies : public Listed {
  Entries entries() const override { return {{its_net(), false}}; }
  Config config() const override {
    Config c = Listed::config();
    c.mappings[0].targets[0].portion = {Portion::kAll / 2, 3};
    return c;
  }
};
DOPPEL_ALL_MODES(ExcludedCopies);
TEST_P(ExcludedCopies, TheListGoesBeforeTheSample) {
  for (int i = 0; i < 3; i++) {
    next_client();
    capture(client_.syn()).none();
    capture(client_.ack()).none();
    capture(client_.data(kGet)).none();
  }
  expect_left_out(63);
}

} // namespace
} // namespace doppel::bpftest
