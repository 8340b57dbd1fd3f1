// SPDX-License-Identifier: Apache-2.0
// What a client says is in the store once, however many shadows its connection has.
#include <arpa/inet.h>

#include <algorithm>

#include "tests/bpf/session.h"

namespace doppel::bpftest {
namespace {

using namespace packet;

constexpr unsigned kCopies = 3;

// Not the same in two places of a stream.
std::string text_at(uint32_t from, uint32_t bytes) {
  std::string text;
  for (uint32_t at = from; at < from + bytes; at++)
    text += static_cast<char>('a' + (at * 2654435761U >> 13) % 26);
  return text;
}

class SharedPayload : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    c.mappings[0].targets[0].portion.copies = kCopies;
    c.limits.flow_cap = 0;
    c.limits.store_bytes = 64 * DP_CHUNK;
    return c;
  }
  void begin() override {
    used_ = plane().store_state().used;
    capture(client_.syn()).none();
    const Frames syns = capture(client_.ack());
    ASSERT_EQ(syns.size(), kCopies) << syns.text();
    for (const View &syn : syns)
      targets_.emplace_back().meets(syn);
    for (Target &t : targets_)
      give(consumed(t.syn_ack()));
  }
  Target &at_port(uint16_t port) {
    return *std::find_if(targets_.begin(), targets_.end(),
                         [&](const Target &t) { return t.shadow_port == port; });
  }
  // Each of these frames to whom it is for.
  void give(const Frames &frames) {
    for (const View &v : frames)
      EXPECT_EQ(at_port(v.sport).takes(v), "") << Frames{v}.text();
  }
  // Acknowledges, and takes what comes of it, until nothing more comes.
  void drain(Target &t) {
    for (Frames more = consumed(t.ack()); !more.empty(); more = consumed(t.ack()))
      give(more);
  }
  // The client says the next so many bytes of its stream, in segments of `size`.
  Frames say(uint32_t bytes, uint32_t size = 1000) {
    Frames all;
    for (uint32_t said = 0; said < bytes; said += size) {
      const std::string text = text_at(said_, std::min(size, bytes - said));
      for (const View &v : capture(client_.data(text)))
        all.push_back(v);
      said_ += static_cast<uint32_t>(text.size());
    }
    return all;
  }
  unsigned chunks() { return static_cast<unsigned>(plane().store_state().used - used_); }
  void expect_all_received() {
    for (const Target &t : targets_)
      EXPECT_EQ(t.received, text_at(0, said_)) << "the shadow of port " << t.shadow_port;
  }

  std::vector<Target> targets_;
  uint32_t said_ = 0;
  int64_t used_ = 0;
};
DOPPEL_ALL_MODES(SharedPayload);

TEST_P(SharedPayload, IsKeptOnce) {
  for (Target &t : targets_) {
    t.window = 0;
    give(consumed(t.ack()));
  }
  say(8 * DP_CHUNK);
  EXPECT_LE(chunks(), 9U); // the stream does not begin with a chunk
  EXPECT_EQ(new_store_entries(), static_cast<int>(kCopies * chunks()));
  EXPECT_EQ(plane().store_state().used, plane().chunks_held());
  for (Target &t : targets_) {
    t.window = 502;
    drain(t);
  }
  expect_all_received();
  EXPECT_LE(chunks(), 1U);
}

TEST_P(SharedPayload, IsFreeWhenTheLastHasIt) {
  give(say(6 * DP_CHUNK));
  const unsigned before = chunks();
  EXPECT_GE(before, 6U);
  drain(targets_[1]);
  drain(targets_[2]);
  EXPECT_EQ(chunks(), before) << "one target has not acknowledged it yet";
  drain(targets_[0]);
  expect_all_received();
  EXPECT_LE(chunks(), 1U);
}

// What two of them gave back is not the one's that lags, whoever takes the room.
TEST_P(SharedPayload, OneThatLagsHasItsOwn) {
  targets_[0].window = 0;
  give(consumed(targets_[0].ack()));
  for (int round = 0; round < 8; round++) {
    give(say(2 * DP_CHUNK, 700));
    drain(targets_[1]);
    drain(targets_[2]);
  }
  const Client first = client_;
  std::vector<Target> theirs = std::move(targets_);
  const uint32_t said = said_;
  // Another client takes chunks that are free again.
  targets_.clear();
  next_client();
  said_ = 7777;
  begin();
  const uint32_t from = said_;
  give(say(4 * DP_CHUNK));
  for (Target &t : targets_)
    drain(t);
  for (const Target &t : targets_)
    EXPECT_EQ(t.received, text_at(from, said_ - from));
  client_ = first;
  targets_ = std::move(theirs);
  said_ = said;
  targets_[0].window = 502;
  drain(targets_[0]);
  expect_all_received();
}

TEST_P(SharedPayload, AHoleThatIsFilled) {
  const uint32_t begins = client_.next;
  give(say(1500, 500));
  const std::string missing = text_at(1500, 500), beyond = text_at(2000, 1200);
  const uint32_t hole = client_.next;
  capture(client_.segment(hole + 500, PSH, beyond)).none();
  client_.next = hole;
  give(capture(client_.data(missing)));
  client_.next = begins + 1500 + 500 + 1200;
  said_ = 3200;
  give(say(3 * DP_CHUNK, 900));
  for (Target &t : targets_)
    drain(t);
  expect_all_received();
  expect_account({{"observed", static_cast<int>(kCopies * said_)},
                  {"delivered", static_cast<int>(kCopies * said_)},
                  {"event.out_of_order", static_cast<int>(kCopies)}});
}

// Its shadow goes on in a new one; the others' bytes are untouched.
TEST_P(SharedPayload, OneThatIsReset) {
  give(say(3 * DP_CHUNK));
  consumed(targets_[1].segment(targets_[1].next, RST));
  targets_.erase(targets_.begin() + 1);
  drain(targets_[0]);
  drain(targets_[1]);
  expect_all_received();
  EXPECT_EQ(plane().store_state().used, plane().chunks_held());
}

TEST_P(SharedPayload, SegmentsOfAllSizes) {
  uint32_t dice = 1;
  for (int round = 0; round < 60; round++) {
    dice = dice * 1103515245 + 12345;
    const uint32_t size = 1 + (dice >> 16) % 1448;
    give(say(size, size));
    Target &t = targets_[(dice >> 8) % kCopies];
    drain(t);
  }
  for (Target &t : targets_)
    drain(t);
  expect_all_received();
}

// A chunk is free when all that hold it are gone: who asks for room gets it, or breaks none.
TEST_P(SharedPayload, RoomIsMadeOfAllThatHold) {
  for (Target &t : targets_) {
    t.window = 0;
    give(consumed(t.ack()));
  }
  say(50 * DP_CHUNK);
  EXPECT_GE(chunks(), 50U);
  mark();
  targets_.clear();
  next_client();
  said_ = 0;
  begin();
  for (unsigned i = 0; i < 14 * DP_CHUNK / 1000; i++) {
    const std::string text = text_at(said_, 1000);
    for (const View &v : capture(client_.data(text)))
      if (std::any_of(targets_.begin(), targets_.end(),
                      [&](const Target &t) { return t.shadow_port == v.sport; }))
        give(Frames{v}); // the others are told that they are broken
    said_ += 1000;
  }
  EXPECT_EQ(moved()["broken"], static_cast<int>(kCopies));
  for (Target &t : targets_)
    drain(t);
  expect_all_received();
}

// It holds alone what the others gave back, as far as its share goes.
TEST_P(SharedPayload, OneThatFollowsAndLagsLeavesRoom) {
  targets_[2].window = 0;
  give(consumed(targets_[2].ack()));
  unsigned most = 0;
  mark();
  for (int round = 0; round < 60; round++) {
    give(say(DP_CHUNK, 700));
    most = std::max(most, chunks());
    drain(targets_[0]);
    drain(targets_[1]);
  }
  EXPECT_EQ(moved()["broken"], 1);
  EXPECT_GT(most, 32U);
  EXPECT_LE(most, 54U) << "four fifths of 64";
  targets_.pop_back();
  expect_all_received();
}

// Two targets, of which the first one never answers, and may have one shadow that is not
// established.
class OneTargetIsSilent : public Session {
protected:
  Config config() const override {
    Config c = default_config();
    TargetConfig other = c.mappings[0].targets[0];
    other.port = kOther;
    other.where = "mappings[0].targets[1]";
    c.mappings[0].targets.push_back(other);
    c.limits.embryonic = 1;
    return c;
  }
  // The client's connection begins; answers the SYN to the second target.
  Target knock(unsigned syns) {
    capture(client_.syn()).none();
    const Frames got = capture(client_.ack());
    EXPECT_EQ(got.size(), syns) << got.text();
    Target t;
    t.port = kOther;
    if (!got.empty() && got.back().dport == kOther)
      t.meets(got.back());
    return t;
  }
  static constexpr uint16_t kOther = 21312;
};
DOPPEL_ALL_MODES(OneTargetIsSilent);

// To the first shadow, which is the former connection's, the next one's bytes were sent before: it
// stores nothing, and so it does not lead.
TEST_P(OneTargetIsSilent, TheSameNumbersAgainAreOtherBytes) {
  const Client before = client_;
  const std::string first(100, 'a'), second(100, 'b');
  Target one = knock(2);
  consumed(one.syn_ack());
  for (const View &v : capture(client_.data(first)))
    EXPECT_EQ(one.takes(v), "");
  EXPECT_EQ(one.received, first);
  consumed(one.ack());
  for (const View &v : capture(client_.rst()))
    EXPECT_EQ(one.takes(v), "");
  consumed(one.fin());
  client_ = before;
  Target two = knock(1);
  capture(client_.data(second)).none();
  for (const View &v : consumed(two.syn_ack()))
    EXPECT_EQ(two.takes(v), "");
  EXPECT_EQ(two.received, second);
  consumed(two.ack());
  capture(client_.rst());
  consumed(two.fin());
}

} // namespace
} // namespace doppel::bpftest
