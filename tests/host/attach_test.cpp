// SPDX-License-Identifier: Apache-2.0
// Attaching and detaching among neighbours: order, and what is left.
#include <net/if.h>

#include <algorithm>

#include "tests/host/host.h"
#include "userspace/kernel/tcx.h"

namespace doppel::hosttest {
using testing::Values;

INSTANTIATE_TEST_SUITE_P(Mode, BothModes, Values(AttachMode::tcx, AttachMode::clsact),
                         [](const auto &info) {
                           return info.param == AttachMode::tcx ? "tcx" : "clsact";
                         });

TEST_P(BothModes, DetachRestoresTheHost) {
  const std::string before = footprint();
  Config c = config(GetParam());
  auto attached = attach(plan(c), c);
  ASSERT_TRUE(attached) << text(attached.errors());
  EXPECT_TRUE(attached->hooks.empty()) << attached->hooks.front();
  EXPECT_TRUE(attached->neighbours.empty()) << attached->neighbours.front();
  EXPECT_NE(footprint(), before);
  auto report = detach(1000);
  ASSERT_TRUE(report) << text(report.errors());
  EXPECT_TRUE(report->was_attached);
  EXPECT_EQ(report->last.mappings.size(), 1u);
  EXPECT_EQ(footprint(), before);
}

TEST_P(BothModes, DetachOfNothingIsNoError) {
  const std::string before = footprint();
  auto report = detach(1000);
  ASSERT_TRUE(report) << text(report.errors());
  EXPECT_FALSE(report->was_attached);
  EXPECT_EQ(footprint(), before);
}

TEST_P(BothModes, ReturnRunsBeforeCapture) {
  Config c = config(GetParam());
  ASSERT_TRUE(attach(plan(c), c));
  EXPECT_EQ(order("svc0", "ingress"), "doppel_return doppel_ingress");
  EXPECT_EQ(order("doppel0", "egress"), "doppel_deliver");
  EXPECT_EQ(order("doppel0", "ingress"), "doppel_deliver");
  auto status = read_status();
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->attached);
  EXPECT_TRUE(status->missing.empty());
  EXPECT_EQ(status->config_source, c.source);
}

TEST_P(BothModes, EgressCaptureLeavesReturnOnIngress) {
  const std::string before = footprint();
  Config c = config(GetParam(), DP_DIR_EGRESS);
  auto done = attach(plan(c), c);
  ASSERT_TRUE(done) << text(done.errors());
  EXPECT_EQ(order("svc0", "ingress"), "doppel_return");
  EXPECT_EQ(order("svc0", "egress"), "doppel_egress");
  ASSERT_TRUE(detach(0));
  EXPECT_EQ(footprint(), before);
}

TEST_P(BothModes, NeighbourFilterThatWasThereRunsAfterAndStays) {
  neighbour_filter("svc0", "ingress", 10);
  neighbour_filter("svc0", "egress", 1);
  const std::string before = footprint();
  Config c = config(GetParam());
  auto attached = attach(plan(c), c);
  ASSERT_TRUE(attached) << text(attached.errors());
  EXPECT_TRUE(attached->hooks.empty()) << attached->hooks.front();
  EXPECT_TRUE(attached->neighbours.empty()) << attached->neighbours.front();
  EXPECT_EQ(order("svc0", "ingress"), "doppel_return doppel_ingress neighbour");
  ASSERT_TRUE(detach(0));
  EXPECT_EQ(footprint(), before);
}

TEST_P(BothModes, NeighbourFilterThatCameLaterStays) {
  Config c = config(GetParam());
  ASSERT_TRUE(attach(plan(c), c));
  neighbour_filter("svc0", "egress", 7);
  ASSERT_TRUE(detach(0));
  EXPECT_NE(sh("tc filter show dev svc0 egress").find("neighbour"), std::string::npos);
  EXPECT_EQ(sh("tc filter show dev svc0 ingress"), "");
}

TEST_P(BothModes, EmptyQdiscOfSomeoneElseStays) {
  sh("tc qdisc add dev svc0 clsact");
  const std::string before = footprint();
  Config c = config(GetParam());
  ASSERT_TRUE(attach(plan(c), c));
  ASSERT_TRUE(detach(0));
  EXPECT_EQ(footprint(), before);
}

TEST_P(BothModes, NeighbourOnTcxIsReported) {
  if (!tcx_supported())
    GTEST_SKIP() << "this kernel has no TCX (Linux 6.6 has it)";
  int err = 0;
  Fd prog = neighbour();
  Fd link = tcx_attach(prog.get(), ::if_nametoindex("svc0"), DP_DIR_INGRESS, -1, &err);
  ASSERT_TRUE(link) << std::strerror(err);
  const std::string before = footprint();
  Config c = config(GetParam());
  auto attached = attach(plan(c), c);
  ASSERT_TRUE(attached) << text(attached.errors());
  if (GetParam() == AttachMode::tcx) {
    EXPECT_TRUE(attached->hooks.empty());
    EXPECT_TRUE(attached->neighbours.empty());
    EXPECT_EQ(order("svc0", "ingress"), "doppel_return doppel_ingress neighbour");
  } else {
    ASSERT_EQ(attached->hooks.size(), 1u);
    EXPECT_TRUE(attached->neighbours.empty());
    EXPECT_NE(attached->hooks.front().find("neighbour"), std::string::npos)
        << attached->hooks.front();
    EXPECT_EQ(order("svc0", "ingress"), "neighbour doppel_return doppel_ingress");
    auto status = read_status();
    ASSERT_TRUE(status);
    EXPECT_FALSE(status->warnings.empty());
  }
  ASSERT_TRUE(detach(0));
  EXPECT_EQ(footprint(), before);
}

TEST_F(Host, NoPriorityLeftBeforeANeighbourIsAWarning) {
  neighbour_filter("svc0", "ingress", 1);
  const std::string before = footprint();
  Config c = config(AttachMode::clsact);
  auto attached = attach(plan(c), c);
  ASSERT_TRUE(attached) << text(attached.errors());
  EXPECT_EQ(attached->hooks.size(), 2u); // return and capture
  EXPECT_TRUE(attached->neighbours.empty());
  EXPECT_EQ(order("svc0", "ingress"), "neighbour doppel_return doppel_ingress");
  ASSERT_TRUE(detach(0));
  EXPECT_EQ(footprint(), before);
}

TEST_F(Host, IngressQdiscServesIngress) {
  sh("tc qdisc add dev svc0 ingress");
  const std::string before = footprint();
  Config c = config(AttachMode::clsact);
  auto done = attach(plan(c), c);
  ASSERT_TRUE(done) << text(done.errors());
  EXPECT_EQ(order("svc0", "ingress"), "doppel_return doppel_ingress");
  ASSERT_TRUE(detach(0));
  EXPECT_EQ(footprint(), before);
}

TEST_P(BothModes, LinkIsQuietAndTakesTheLargestClone) {
  Config c = config(GetParam());
  ASSERT_TRUE(attach(plan(c), c));
  for (const char *name : {"doppel0", "doppel1"}) {
    const std::string link = sh(std::string("ip -d link show ") + name);
    for (const char *part : {"mtu 65535", "NOARP", "UP", "alias doppel", "addrgenmode none"})
      EXPECT_NE(link.find(part), std::string::npos) << part << " is not in " << link;
    EXPECT_EQ(sh(std::string("ip -o addr show ") + name), "");
  }
}

} // namespace doppel::hosttest
