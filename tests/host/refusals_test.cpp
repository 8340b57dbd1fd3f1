// SPDX-License-Identifier: Apache-2.0
// Attach that fails, at each step that the outside world can make fail: nothing stays behind.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/host/host.h"

namespace doppel::hosttest {
class Refusal : public Host {
protected:
  void SetUp() override {
    Host::SetUp();
    config_ = config(AttachMode::clsact);
    plan_ = plan(config_);
    before_ = footprint();
  }

  // Attach fails with these words, and leaves the host as it is now.
  void expect_refused(const std::string &where, const std::string &what) {
    const std::string now = footprint();
    auto done = attach(plan_, config_);
    ASSERT_FALSE(done);
    const std::string errors = text(done.errors());
    EXPECT_EQ(done.errors().size(), 1u) << errors;
    EXPECT_EQ(done.errors().front().where, where) << errors;
    EXPECT_NE(errors.find(what), std::string::npos) << errors;
    EXPECT_FALSE(done.errors().front().hint.empty()) << errors;
    EXPECT_EQ(footprint(), now);
  }

  Config config_;
  Plan plan_;
  std::string before_;
};

TEST_F(Refusal, SecondAttach) {
  ASSERT_TRUE(attach(plan_, config_));
  expect_refused("doppel attach", "already attached since 20");
  auto status = read_status();
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->attached && status->missing.empty());
}

TEST_F(Refusal, NoBpffs) {
  use_bpffs("/tmp");
  auto done = attach(plan_, config_);
  use_bpffs(bpffs);
  ASSERT_FALSE(done);
  EXPECT_NE(text(done.errors()).find("mount -t bpf bpf /tmp"), std::string::npos);
  EXPECT_EQ(footprint(), before_);
}

TEST_F(Refusal, DeviceDisappeared) {
  sh("ip link del svc0");
  expect_refused("device svc0", "disappeared");
}

TEST_F(Refusal, DeviceOfThePlanIsGoneWhenItsTurnComes) {
  // The first check passes: the name and number given are those of lo.
  plan_.attachments.back().device = "lo";
  plan_.attachments.back().ifindex = 1;
  sh("tc qdisc add dev lo ingress");
  plan_.attachments.back().direction = DP_DIR_EGRESS;
  expect_refused("device lo egress", "ingress");
}

TEST_F(Refusal, EgressOnAnIngressQdisc) {
  sh("tc qdisc add dev svc0 ingress");
  config_ = config(AttachMode::clsact, DP_DIR_EGRESS);
  plan_ = plan(config_);
  expect_refused("device svc0 egress", "has no egress side");
}

TEST_F(Refusal, StoreLargerThanMemory) {
  plan_.chunks = 1u << 30;
  expect_refused("map store", "MiB available");
}

TEST_F(Refusal, MapThatTheKernelRefuses) {
  plan_.store_rows = 0;
  expect_refused("map store", "cannot be created: Invalid argument");
}

TEST_F(Refusal, UnknownProgram) {
  plan_.attachments.back().program = "doppel_nothing";
  auto done = attach(plan_, config_);
  ASSERT_FALSE(done);
  EXPECT_EQ(footprint(), before_);
}

TEST_F(Refusal, ForeignDeviceOfOurName) {
  for (const char *name : {"doppel0", "doppel1"}) {
    sh(std::string("ip link add ") + name + " type bridge");
    expect_refused("device doppel0", "File exists");
    auto report = detach(0);
    ASSERT_TRUE(report);
    EXPECT_FALSE(report->was_attached);
    sh(std::string("ip link del ") + name);
  }
}

TEST_F(Refusal, PinsOfAnotherVersion) {
  sh("mkdir -p " + bpffs + "/doppel/v999/maps");
  expect_refused(bpffs + "/doppel/v999", "another version");
  EXPECT_FALSE(detach(0)); // its programs are not ours to remove
}

TEST_F(Refusal, AnotherDoppelIsAtWork) {
  const std::string dir = bpffs + "/doppel";
  sh("mkdir " + dir);
  const Fd holder(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::flock(holder.get(), LOCK_EX | LOCK_NB), 0);
  expect_refused(dir, "another doppel");
}

// In a child, as rights that are given up do not come back.
TEST_F(Refusal, NoPrivileges) {
  auto pid = ::fork();
  if (pid == 0) {
    if (::setresuid(65534, 65534, 65534))
      ::_exit(2);
    auto done = attach(plan_, config_);
    auto ended = detach(0);
    auto status = read_status();
    bool right = !done && !ended && !status &&
                 done.errors().front().what.find("CAP_NET_ADMIN") != std::string::npos;
    ::_exit(right ? 0 : 1);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(footprint(), before_);
}

} // namespace doppel::hosttest
