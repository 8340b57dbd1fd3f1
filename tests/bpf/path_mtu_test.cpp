// SPDX-License-Identifier: Apache-2.0
// What the path to the target takes, and how open shadows learn of it (docs/design.md, What the
// path takes).
#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr unsigned kMtu = 1500; // of the device toward the target

class PathMtu : public Session {
protected:
  void TearDown() override {
    if (!IsSkipped()) {
      plane().route_mtu(kMtu);
      plane().learn_path(0, 0);
    }
    Session::TearDown();
  }
  void obey(unsigned mtu) {
    plane().route_mtu(mtu);
    plane().command(slot(), DP_CMD_MTU);
  }
  // A segment of the client's with 1,448 bytes; the payloads that leave for it.
  std::vector<size_t> say() {
    Frames sent = capture(client_.data(filler(1448, said_++)));
    std::vector<size_t> out;
    for (const View &v : sent)
      out.push_back(v.payload.size());
    deliver(sent);
    consumed(target_.ack()).none();
    return out;
  }
  using Sizes = std::vector<size_t>;

private:
  unsigned said_ = 0;
};
DOPPEL_ALL_MODES(PathMtu);

TEST_P(PathMtu, ARouteThatTakesLessReachesAnOpenShadow) {
  open();
  EXPECT_EQ(say(), (Sizes{1448}));
  obey(1000);
  EXPECT_EQ(say(), (Sizes{948, 500}));
}

TEST_P(PathMtu, ThisHostsRouteIsObeyedHoweverLittleItTakes) {
  open();
  obey(400); // a router's word of less than 552 would not be believed
  EXPECT_EQ(say(), (Sizes{348, 348, 348, 348, 56}));
}

TEST_P(PathMtu, ARouteThatTakesMoreReachesAnOpenShadow) {
  plane().route_mtu(1000);
  open();
  EXPECT_EQ(say(), (Sizes{948, 500}));
  obey(1400);
  EXPECT_EQ(say(), (Sizes{1348, 100}));
  obey(kMtu);
  EXPECT_EQ(say(), (Sizes{1448}));
}

TEST_P(PathMtu, NeverMoreThanTheTargetTakes) {
  plane().route_mtu(1000);
  target_.offer.mss_value = 1200;
  open();
  obey(kMtu);
  EXPECT_EQ(say(), (Sizes{1188, 260}));
}

TEST_P(PathMtu, WhatWasFoundIsBelievedForItsTime) {
  plane().learn_path(1000, 600);
  open();
  EXPECT_EQ(say(), (Sizes{948, 500}));
  obey(kMtu);
  EXPECT_EQ(say(), (Sizes{948, 500}));
  plane().learn_path(1000, 0); // RFC 1191, 6.3
  EXPECT_EQ(say(), (Sizes{1448}));
  EXPECT_EQ(shadow().tcp.small_passed, 2u) << "one more proof, and it is believed again";
}

} // namespace
} // namespace doppel::bpftest
