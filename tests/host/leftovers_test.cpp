// SPDX-License-Identifier: Apache-2.0
// A data plane that others damaged: status says what is missing, attach refuses, detach cleans.
#include <net/if.h>
#include <unistd.h>

#include "tests/host/host.h"
#include "tests/soon.h"
#include "userspace/mirror/health.h"

namespace doppel::hosttest {
class Damaged : public BothModes {
protected:
  void SetUp() override {
    BothModes::SetUp();
    if (IsSkipped())
      return;
    before_ = footprint();
    config_ = config(GetParam());
    plan_ = plan(config_);
    auto done = attach(plan_, config_);
    ASSERT_TRUE(done) << text(done.errors());
  }

  std::string missing() const {
    auto status = read_status();
    EXPECT_TRUE(status) << text(status.errors());
    std::string s;
    for (const auto &m : status->missing)
      s += m + "\n";
    return s;
  }

  void expect_clean_detach() {
    auto report = detach(100);
    ASSERT_TRUE(report) << text(report.errors());
    EXPECT_TRUE(report->was_attached);
    EXPECT_TRUE(report->errors.empty()) << text(report->errors);
  }

  std::string before_;
  Config config_;
  Plan plan_;
};

INSTANTIATE_TEST_SUITE_P(Mode, Damaged, testing::Values(AttachMode::tcx, AttachMode::clsact),
                         [](const auto &info) {
                           return info.param == AttachMode::tcx ? "tcx" : "clsact";
                         });

TEST_P(Damaged, PinsRemoved) {
  sh("rm -r " + bpffs + "/doppel");
  auto status = read_status();
  ASSERT_TRUE(status);
  EXPECT_FALSE(status->attached);
  ASSERT_EQ(status->problems.size(), 1u);
  EXPECT_EQ(status->problems.front().kind, ProblemKind::remains);
  EXPECT_NE(status->problems.front().hint.find("doppel detach"), std::string::npos);
  auto again = attach(plan_, config_);
  ASSERT_FALSE(again);
  EXPECT_NE(text(again.errors()).find("remains"), std::string::npos);
  expect_clean_detach();
  EXPECT_EQ(footprint(), before_);
}

TEST_P(Damaged, MetaRemoved) {
  sh("rm " + own_pins() + "/maps/meta");
  EXPECT_FALSE(read_counters());
  EXPECT_FALSE(attach(plan_, config_));
  expect_clean_detach();
  EXPECT_EQ(footprint(), before_);
}

// They run on, and nobody can ask anything of them: what was in flight is not drained.
TEST_P(Damaged, ProgramsUnpinned) {
  sh("rm -r " + own_pins() + "/progs");
  auto report = detach(100);
  ASSERT_TRUE(report) << text(report.errors());
  EXPECT_TRUE(report->ledger);
  EXPECT_NE(text(report->errors).find("could not be drained"), std::string::npos)
      << text(report->errors);
  EXPECT_EQ(footprint(), before_);
}

TEST_P(Damaged, ReadOnly) {
  const std::string attached = footprint();
  sh("mount -o remount,ro " + bpffs);
  const auto health = read_health();
  EXPECT_TRUE(health && health->complete);
  const auto status = read_status();
  EXPECT_TRUE(status && status->attached && status->problems.empty() && status->missing.empty());
  EXPECT_TRUE(read_counters());
  EXPECT_TRUE(read_flows({}));
  for (bool force : {false, true}) {
    const auto refused = detach(0, {}, force);
    EXPECT_FALSE(refused);
    EXPECT_NE(text(refused.errors()).find("read-only"), std::string::npos);
  }
  EXPECT_EQ(footprint(), attached);
  sh("mount -o remount,rw " + bpffs);
  expect_clean_detach();
  EXPECT_EQ(footprint(), before_);
}

TEST_P(Damaged, CapturedDeviceRemoved) {
  sh("ip link del svc0");
  EXPECT_NE(missing().find("doppel_ingress does not run on svc0 ingress: the device is gone"),
            std::string::npos)
      << missing();
  expect_clean_detach();
  EXPECT_NE(::access((bpffs + "/doppel").c_str(), F_OK), 0);
  EXPECT_EQ(::if_nametoindex("doppel0"), 0u);
}

TEST_P(Damaged, CapturedDeviceReplaced) {
  sh("ip link del svc0");
  sh("ip link add svc0 type veth peer name wire0");
  EXPECT_NE(missing().find("replaced"), std::string::npos) << missing();
  expect_clean_detach();
}

TEST_P(Damaged, LinkRemoved) {
  sh("ip link del doppel0");
  EXPECT_NE(missing().find("device doppel0 is gone"), std::string::npos);
  expect_clean_detach();
  EXPECT_EQ(footprint(), before_);
}

TEST_P(Damaged, LinkDown) {
  sh("ip link set doppel0 down");
  EXPECT_NE(missing().find("device doppel0 is down"), std::string::npos);
  expect_clean_detach();
  EXPECT_EQ(footprint(), before_);
}

TEST_P(Damaged, ProgramTakenOffItsHook) {
  if (GetParam() == AttachMode::tcx)
    sh("rm " + own_pins() + "/links/doppel_ingress-*");
  else
    sh("tc filter del dev svc0 ingress prio 2");
  // A link ends a moment after its last pin: the kernel frees the inode later.
  EXPECT_TRUE(soon([this] { return !missing().empty(); }));
  EXPECT_NE(missing().find("doppel_ingress does not run on svc0 ingress"), std::string::npos)
      << missing();
  expect_clean_detach();
  EXPECT_EQ(footprint(), before_);
}

TEST_P(Damaged, QdiscFlushedByANeighbour) {
  if (GetParam() == AttachMode::tcx) { // which does not hang on a qdisc
    sh("tc qdisc add dev svc0 clsact");
    sh("tc qdisc del dev svc0 clsact");
    EXPECT_EQ(missing(), "");
    return;
  }
  sh("tc qdisc del dev svc0 clsact");
  EXPECT_NE(missing().find("doppel_return does not run on svc0 ingress"), std::string::npos);
  sh("tc qdisc add dev svc0 clsact");
  neighbour_filter("svc0", "ingress", 1);
  expect_clean_detach();
  EXPECT_NE(sh("tc filter show dev svc0 ingress").find("neighbour"), std::string::npos);
}

} // namespace doppel::hosttest
