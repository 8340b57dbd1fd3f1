// SPDX-License-Identifier: Apache-2.0
// Copies that come from several addresses of this host, each with all shadow ports.
#include <cstring>
#include <set>
#include <utility>

#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr int64_t kSize = sizeof kGet - 1;
constexpr unsigned kPorts = 2, kManyPorts = 64;

class Sources : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.limits.port_last = static_cast<uint16_t>(kShadowPort + ports() - 1);
    ShadowAddress a;
    a.address.raw = World::families().target6 ? v6() : Address::v4(cast().further.network()).raw;
    c.mappings[0].targets[0].shadow_addresses = {a};
    return c;
  }

  virtual unsigned ports() const { return kPorts; }

  // One conversation after another, each with all of its bytes delivered and acknowledged.
  void open_all() {
    for (unsigned i = 0; i < 2 * kPorts; i++) {
      if (i)
        next_client();
      open();
      deliver(capture(client_.data(kGet)));
      consumed(target_.ack()).none();
      EXPECT_EQ(target_.received, kGet);
      clients_.push_back(client_);
      targets_.push_back(target_);
    }
  }
  // With whatever conversation.
  void go_on_with(size_t i) {
    client_ = clients_[i];
    target_ = targets_[i];
  }

  std::vector<Client> clients_;
  std::vector<Target> targets_;

private:
  static dp_addr v6() {
    dp_addr raw{};
    std::memcpy(&raw, v6_of(cast().further).b.data(), sizeof raw);
    return raw;
  }
};
DOPPEL_ALL_MODES(Sources);

TEST_P(Sources, EachAddressHasAllPorts) {
  open_all();
  std::set<std::pair<uint32_t, uint16_t>> used;
  for (const Target &t : targets_)
    used.insert({t.shadow.host, t.shadow_port});
  EXPECT_EQ(used.size(), 2 * kPorts) << "two connections are one to the target";
  for (const Ip4 own : {cast().host, cast().further})
    for (uint16_t port = kShadowPort; port < kShadowPort + kPorts; port++)
      EXPECT_TRUE(used.count({own.host, port})) << own.text() << " " << port;
  EXPECT_EQ(plane().free_ports(), 0u);

  next_client();
  mark();
  capture(client_.syn()).none();
  capture(client_.ack()).none();
  capture(client_.data(kGet)).none();
  expect_account({{"excluded.ports_exhausted", kSize}, {"observed", kSize}});
}

// Of two connections from one port the answer is the one's that its address says.
TEST_P(Sources, AnswersReachTheirOwnShadow) {
  open_all();
  for (size_t i = 0; i < targets_.size(); i++) {
    go_on_with(i);
    mark();
    deliver(capture(client_.data(kGet)));
    EXPECT_EQ(target_.received, std::string(kGet) + kGet);
    consumed(target_.ack()).none();
    expect_account({{"delivered", kSize}, {"observed", kSize}});
    targets_[i] = target_;
    clients_[i] = client_;
  }
}

TEST_P(Sources, APortComesBackToItsAddress) {
  open_all();
  for (size_t i = 0; i < targets_.size(); i++) {
    go_on_with(i);
    const Target former = target_;
    EXPECT_FALSE(consumed(target_.rst()).size());
    next_client();
    open();
    EXPECT_EQ(target_.shadow.host, former.shadow.host);
    EXPECT_EQ(target_.shadow_port, former.shadow_port);
  }
}

class ManyPorts : public Sources {
protected:
  unsigned ports() const override { return kManyPorts; }

  Ip4 other() const {
    return target_.shadow.host == cast().host.host ? cast().further : cast().host;
  }
  // The other address remembers a conversation of that port.
  bool is_remembered() {
    const unsigned pool = other().host == cast().further.host;
    return plane().shadow(pool * kManyPorts + target_.shadow_port - kShadowPort).tcp.state !=
           DP_CLOSED;
  }
};
DOPPEL_ALL_MODES(ManyPorts);

TEST_P(ManyPorts, WhatIsForAnotherAddressPasses) {
  open();
  for (unsigned i = 0; i < kManyPorts / 2 && is_remembered(); i++) {
    next_client();
    open();
  }
  ASSERT_FALSE(is_remembered());
  deliver(capture(client_.data(kGet)));
  mark();
  const Packet ack = target_.ack();
  for (const Ip4 to : {other(), Ip4("10.9.0.3")}) {
    SCOPED_TRACE(to.text());
    const Outcome out = respond(between(ack, cast().target, to, World::families().target6));
    EXPECT_EQ(out.passed.size(), 1u) << "the stack did not get the packet";
    EXPECT_EQ(text(moved()), "");
  }
  consumed(ack).none();
  expect_account({{"delivered", kSize}, {"in_flight", -kSize}});
}

TEST_P(ManyPorts, EachAddressIsUsed) {
  std::set<uint32_t> used;
  for (unsigned i = 0; i < kManyPorts && used.size() < 2; i++) {
    if (i)
      next_client();
    open();
    used.insert(target_.shadow.host);
  }
  EXPECT_EQ(used, (std::set<uint32_t>{cast().host.host, cast().further.host}));
}

} // namespace
} // namespace doppel::bpftest
