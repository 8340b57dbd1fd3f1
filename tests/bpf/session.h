// SPDX-License-Identifier: Apache-2.0
// The fixture of all tests with packets. It plays packets into a data plane that is attached for
// real, and watches everything that comes of each: the original as it goes on, the frames that
// leave, the ledger's identity.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/bpf/dataplane.h"
#include "tests/bpf/players.h"
#include "tests/bpf/run.h"
#include "tests/bpf/wire.h"
#include "tests/bpf/world.h"

namespace doppel::bpftest {

// How captured packets get to the program.
enum class Way {
  run,  // BPF_PROG_RUN: the verdict and the context are seen
  hook, // through the device: an unchanged packet reaches the program behind ours
};

struct Mode {
  AttachMode attach;
  Way way;
  Families families{};
};
std::string name_of(const testing::TestParamInfo<Mode> &info);
void PrintTo(const Mode &mode, std::ostream *out); // GoogleTest's name for it

inline constexpr Mode kModes[] = {{AttachMode::tcx, Way::run},
                                  {AttachMode::tcx, Way::hook},
                                  {AttachMode::clsact, Way::run},
                                  {AttachMode::clsact, Way::hook},
                                  {AttachMode::clsact, Way::run, {true, true}},
                                  {AttachMode::clsact, Way::hook, {false, true}},
                                  {AttachMode::tcx, Way::run, {true, false}}};
// Where packets of IPv4 are the matter.
inline constexpr std::array kIpv4Modes = {kModes[0], kModes[1], kModes[2], kModes[3]};

// What most conversations carry: a request of 7 bytes, and what no command of memcached begins
// like: no place to join.
inline constexpr char kGet[] = "get k\r\n", kOdd[] = "half of";

// Frames that left, in order. The checks are members so that what a packet led to is there before
// the expectation is worked out: capture(p).are({...}).
class Frames : public std::vector<packet::View> {
public:
  using vector::vector;
  // One by one; a mismatch names the fields and how to make each packet.
  void are(const std::vector<packet::View> &expected,
           const std::vector<std::string> &ignore = {}) const;
  void none() const { are({}); }
  std::string text() const;
};

// What a packet led to.
struct Outcome {
  Frames sent;   // frames that left through cap0
  Frames passed; // frames that reached the program behind ours
};

class Session : public testing::TestWithParam<Mode> {
protected:
  virtual Config config() const { return default_config(); }
  // What every test of a suite starts from. Not called where a test cannot run.
  virtual void begin() {}

  void SetUp() override;
  void TearDown() override;

  // A client's packet. Fails the test if it is not left as it was.
  Frames capture(const packet::Packet &p);
  // A GRO super-packet.
  Frames capture_gso(const packet::Packet &p, uint16_t gso_size);
  // The target's packet, through the device. consumed(): fails if our stack would see it.
  Outcome respond(const packet::Packet &p);
  Frames consumed(const packet::Packet &p);
  Outcome collect();

  // SYN and ACK of the client; expects and answers the shadow's SYN. Established afterwards.
  void open();
  // The same up to the shadow's SYN.
  void knock();

  // Another client, of a port that is not used, and a target that knows nothing of it.
  void next_client();

  // Lets the target take each frame in turn.
  void deliver(const Frames &frames);

  // What moved in the ledger since the last call of mark().
  void mark();
  Counts moved() const;
  void expect_account(const Counts &expected) const;
  void expect_flows(const Counts &expected) const;

  // Rows of the flow table and chunks of the store that this test added: what an earlier one left
  // behind was its failure.
  int new_flow_entries() const;
  int new_store_entries() const;

  DataPlane &plane() { return *plane_; }
  Wire &wire() { return world_->wire(); }
  World &world() { return *world_; }
  Expected expected() { return {client_, target_}; }
  unsigned slot() const { return target_.shadow_port - kShadowPort; } // of the route's address
  dp_shadow shadow() { return plane_->shadow(slot()); }

  Client client_;
  Target target_;

private:
  Frames through_hook(const packet::Packet &p, std::optional<uint16_t> gso_size);

  World *world_ = nullptr;
  DataPlane *plane_ = nullptr;
  Counts before_;
  unsigned free_ports_ = 0, flow_entries_ = 0, store_entries_ = 0;
  dp_ledger cell_before_{};
};

// `n` bytes that differ from place to place, so that a shift is noticed.
std::string filler(size_t n, unsigned seed = 0);

// A client's port that no test of this process has used.
uint16_t unused_port();

#define DOPPEL_ALL_MODES(suite)                                                                    \
  INSTANTIATE_TEST_SUITE_P(Modes, suite, testing::ValuesIn(kModes), name_of)
#define DOPPEL_IPV4_MODES(suite)                                                                   \
  INSTANTIATE_TEST_SUITE_P(Modes, suite, testing::ValuesIn(kIpv4Modes), name_of)
// Where only the device can play the part: offloads, tags.
inline constexpr Mode kHookModes[] = {
    kModes[1], kModes[3], {AttachMode::clsact, Way::hook, {true, true}}};
#define DOPPEL_HOOK_MODES(suite)                                                                   \
  INSTANTIATE_TEST_SUITE_P(Modes, suite, testing::ValuesIn(kHookModes), name_of)
#define DOPPEL_IPV4_HOOK_MODES(suite)                                                              \
  INSTANTIATE_TEST_SUITE_P(Modes, suite, testing::Values(kModes[1], kModes[3]), name_of)

} // namespace doppel::bpftest
