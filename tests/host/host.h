// SPDX-License-Identifier: Apache-2.0
// A host for each test: a network namespace and a bpffs of its own, and two devices.
//
//   svc0 10.9.0.1/24  <-veth->  wire0      the traffic, and the way to the target 10.9.0.2
//   aux0              <-veth->  aux1       for neighbours
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "userspace/kernel/host_view.h"
#include "userspace/kernel/pins.h"
#include "userspace/mirror/attach.h"
#include "userspace/mirror/counters.h"
#include "userspace/mirror/detach.h"
#include "userspace/mirror/flows.h"
#include "userspace/mirror/probe.h"
#include "userspace/mirror/status.h"
#include "userspace/util/fd.h"

namespace doppel::hosttest {

// Empty: these tests can run here. Else the reason why they cannot.
std::string why_not();

// Standard output of a command; a command that fails is a failure of the test.
std::string sh(const std::string &command);

// Error texts, one a line, for messages and matching.
std::string text(const Errors &errors);

class Host : public testing::Test {
protected:
  void SetUp() override;
  void TearDown() override;

  // Port 11211 of svc0 to 10.9.0.2, as read from a configuration.
  Config config(AttachMode mode, dp_direction direction = DP_DIR_INGRESS) const;
  Plan plan(const Config &config) const;

  // Everything that attach could leave on this host, as text to compare.
  std::string footprint() const;

  // Programs on a hook in running order, as status shows them: "doppel_return doppel_ingress".
  std::string order(const std::string &device, const std::string &hook) const;

  // A program that lets everything pass (TC_ACT_UNSPEC), named "neighbour".
  Fd neighbour() const;
  // Attached by clsact, which is made if need be.
  void neighbour_filter(const std::string &device, const std::string &hook, unsigned priority);

  std::string bpffs;
  // Where the pins of this build lie.
  std::string own_pins() const { return bpffs + "/doppel/v" + std::to_string(DP_ABI); }
};

// Both mechanisms; TCX is skipped with its reason where the kernel has none.
class BothModes : public Host, public testing::WithParamInterface<AttachMode> {
protected:
  void SetUp() override;
};

} // namespace doppel::hosttest
