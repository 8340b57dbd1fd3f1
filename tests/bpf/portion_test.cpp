// SPDX-License-Identifier: Apache-2.0
// A sample of the connections, whole or not at all, or none of them, and several copies of each.
#include <arpa/inet.h>

#include <bit>
#include <set>

#include "tests/bpf/left_out.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr uint32_t kSeed = 2026;

// Jenkins' lookup3 of whole words, as hashword() of its author has it.
uint32_t hashword(const std::vector<uint32_t> &words, uint32_t seed) {
  uint32_t a = 0xdeadbeef + (static_cast<uint32_t>(words.size()) << 2) + seed, b = a, c = a;
  size_t at = 0;
  const auto mix = [](uint32_t &x, uint32_t &y, uint32_t &z, int by) {
    x -= z;
    x ^= std::rotl(z, by);
    z += y;
  };
  for (; words.size() - at > 3; at += 3) {
    a += words[at];
    b += words[at + 1];
    c += words[at + 2];
    mix(a, b, c, 4), mix(b, c, a, 6), mix(c, a, b, 8);
    mix(a, b, c, 16), mix(b, c, a, 19), mix(c, a, b, 4);
  }
  a += words[at];
  b += words[at + 1];
  c += words[at + 2];
  const auto last = [](uint32_t &x, uint32_t y, int by) {
    x ^= y;
    x -= std::rotl(y, by);
  };
  last(c, b, 14), last(a, c, 11), last(b, a, 25), last(c, b, 16);
  last(a, c, 4), last(b, a, 14), last(c, b, 24);
  return c;
}

class Sampled : public LeftOut {
protected:
  std::string reason() const override { return "sample"; }
  Config config() const override {
    Config c = default_config();
    c.mappings[0].targets[0].portion.sample = Portion::kAll / 2;
    c.mappings[0].seed = kSeed;
    return c;
  }
  bool is_chosen() const {
    std::vector<uint32_t> words;
    for (const dp_addr &a : {client_side(client_.ip), client_side(cast().server)})
      words.insert(words.end(), a.w, a.w + 4);
    words.push_back(static_cast<uint32_t>(htons(client_.port)) << 16 | htons(client_.server_port));
    return hashword(words, kSeed) < 1U << 31;
  }
  void be(bool chosen) {
    do
      next_client();
    while (is_chosen() != chosen);
    mark();
  }
};
DOPPEL_ALL_MODES(Sampled);

TEST_P(Sampled, OneOfTheSampleIsMirroredWhole) {
  be(true);
  open();
  deliver(capture(client_.data(kGet)));
  consumed(target_.ack());
  expect_account({{"observed", 7}, {"delivered", 7}});
}

TEST_P(Sampled, AnyOtherIsCountedOnce) {
  be(false);
  expect_each_byte_once();
}

TEST_P(Sampled, AnyOtherDoesNotJoin) {
  be(false);
  expect_no_join();
}

TEST_P(Sampled, WhatCannotBeReadOfAnotherIsLeftOutAsWell) {
  be(false);
  expect_unreadable_as_well();
}

// Both its ends are in the hash, and nothing of the packet.
TEST_P(Sampled, BothKindsAreThere) {
  for (int i = 0; i < 20; i++) {
    be(i % 2 == 0);
    capture(client_.syn()).none();
    EXPECT_EQ(capture(client_.ack()).size(), i % 2 == 0 ? 1U : 0U);
  }
}

class DryRun : public LeftOut {
  std::string reason() const override { return "dry_run"; }
  Config config() const override {
    Config c = default_config();
    c.mappings[0].targets[0].portion.sample = 0;
    return c;
  }
};
DOPPEL_ALL_MODES(DryRun);

TEST_P(DryRun, EachByteIsCountedOnce) { expect_each_byte_once(); }
TEST_P(DryRun, DoesNotJoin) { expect_no_join(); }
TEST_P(DryRun, WhatCannotBeReadIsLeftOutAsWell) { expect_unreadable_as_well(); }

class Copied : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.mappings[0].targets[0].portion.copies = 3;
    return c;
  }
  // A shadow for each of these SYNs.
  std::vector<Target> meet(const Frames &syns) {
    std::vector<Target> targets(syns.size());
    for (size_t i = 0; i < syns.size(); i++)
      targets[i].meets(syns[i]);
    return targets;
  }
};
DOPPEL_ALL_MODES(Copied);

TEST_P(Copied, EachIsAConnectionOfItsOwn) {
  capture(client_.syn()).none();
  const Frames syns = capture(client_.ack());
  ASSERT_EQ(syns.size(), 3U) << syns.text();
  std::vector<Target> targets = meet(syns);
  EXPECT_EQ(new_flow_entries(), 3);
  capture(client_.data(kGet)).none();
  expect_account({{"observed", 21}, {"in_flight", 21}});
  std::set<uint16_t> ports;
  for (Target &t : targets) {
    ports.insert(t.shadow_port);
    target_ = t;
    const Frames frames = consumed(target_.syn_ack());
    for (const View &v : frames)
      EXPECT_EQ(target_.takes(v), "");
    EXPECT_EQ(target_.received, kGet);
    consumed(target_.ack());
    t = target_;
  }
  EXPECT_EQ(ports.size(), 3U);
  expect_account({{"observed", 21}, {"delivered", 21}});
  const Frames sent = capture(client_.data(kGet));
  ASSERT_EQ(sent.size(), 3U) << sent.text();
  // One that its target resets goes on in a new shadow, and leaves the others alone.
  target_ = targets[1];
  EXPECT_EQ(consumed(target_.segment(target_.next, RST)).size(), 1U);
  for (size_t i : {0U, 2U}) {
    target_ = targets[i];
    EXPECT_EQ(target_.takes(sent[i]), "");
    consumed(target_.ack());
  }
  expect_account({{"observed", 42}, {"delivered", 35}, {"in_flight", 7}, {"event.resumed", 1}});
  const Frames fins = capture(client_.fin());
  EXPECT_EQ(fins.size(), 2U) << fins.text();
}

TEST_P(Copied, EachJoins) {
  const Frames syns = capture(client_.data(kGet));
  EXPECT_EQ(syns.size(), 3U) << syns.text();
  expect_account({{"observed", 21}, {"in_flight", 21}});
}

} // namespace
} // namespace doppel::bpftest
