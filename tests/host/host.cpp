// SPDX-License-Identifier: Apache-2.0
#include "tests/host/host.h"

#include <bpf/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "userspace/kernel/clsact.h"
#include "userspace/kernel/rtnl.h"
#include "userspace/kernel/tcx.h"

namespace doppel::hosttest {
std::string why_not() {
  if (::geteuid() != 0)
    return "these tests need root";
  if (::unshare(CLONE_NEWNET | CLONE_NEWNS))
    return std::string("no namespaces of our own: ") + std::strerror(errno);
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr))
    return std::string("no private mounts: ") + std::strerror(errno);
  return {};
}

std::string sh(const std::string &command) {
  std::string out;
  FILE *pipe = ::popen((command + " 2>&1").c_str(), "r");
  std::array<char, 4096> buf;
  for (size_t n; (n = std::fread(buf.data(), 1, buf.size(), pipe)) > 0;)
    out.append(buf.data(), n);
  EXPECT_EQ(::pclose(pipe), 0) << command << "\n" << out;
  return out;
}

std::string text(const Errors &errors) {
  std::string s;
  for (const Error &e : errors)
    s += e.where + ": " + e.what + " | " + e.hint + "\n";
  return s;
}

void Host::SetUp() {
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0) << std::strerror(errno);
  char dir[] = "/tmp/doppel-host-XXXXXX";
  ASSERT_NE(::mkdtemp(dir), nullptr);
  bpffs = dir;
  ASSERT_EQ(::mount("bpf", dir, "bpf", 0, nullptr), 0) << std::strerror(errno);
  use_bpffs(bpffs);
  sh("ip link set lo up");
  sh("ip link add svc0 type veth peer name wire0");
  sh("ip link add aux0 type veth peer name aux1");
  sh("ip addr add 10.9.0.1/24 dev svc0");
  for (const char *d : {"svc0", "wire0", "aux0", "aux1"})
    sh(std::string("ip link set ") + d + " up");
  // Known already, so that no attach waits for an answer.
  sh("ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:07 nud permanent dev svc0");
}

void Host::TearDown() {
  use_bpffs(bpffs);
  (void)detach(0);
  ::umount2(bpffs.c_str(), MNT_DETACH);
  std::error_code ec;
  std::filesystem::remove(bpffs, ec);
}

Config Host::config(AttachMode mode, dp_direction direction) const {
  std::string egress = direction == DP_DIR_EGRESS ? "egress" : "ingress";
  auto parsed = parse_config(R"({"store": "4MiB", "flows": 1024, "shadow_ports": "20000-20063",
    "mappings": [{"name": "data", "device": "svc0", "direction": ")" +
                                 egress + R"(", "ports": "11211-11212",
      "targets": [{"address": "10.9.0.2", "port": 21211}]}]})",
                             "test.json");
  EXPECT_TRUE(parsed) << text(parsed.errors());
  Config c = *parsed;
  c.attach_mode = mode;
  return c;
}

Plan Host::plan(const Config &config) const {
  auto view = view_host(config);
  EXPECT_TRUE(view) << text(view.errors());
  auto plan = make_plan(config, *view);
  EXPECT_TRUE(plan) << text(plan.errors());
  return *plan;
}

std::string Host::footprint() const {
  // A new veth is told of its carrier a moment after it is up.
  std::string s = sh("ip -o link | sed 's/ qdisc .*//; s/NO-CARRIER,//'") + sh("tc qdisc show") +
                  sh("ip -4 route show table all | sed 's/ linkdown//'") + sh("ip -4 neigh") +
                  sh("find " + bpffs + "/ -mindepth 1");
  for (const char *device : {"svc0", "aux0"}) {
    if (!::if_nametoindex(device))
      continue;
    for (dp_direction hook : {DP_DIR_INGRESS, DP_DIR_EGRESS}) {
      int err = 0;
      for (const auto &t : tcx_query(::if_nametoindex(device), hook, &err))
        s += std::string(device) + " tcx " + std::to_string(t.prog_id) + "\n";
      s +=
          sh(std::string("tc filter show dev ") + device + " " + direction_name(hook) + " || true");
    }
  }
  return s;
}

std::string Host::order(const std::string &device, const std::string &hook) const {
  auto status = read_status();
  EXPECT_TRUE(status) << text(status.errors());
  std::string s;
  for (const AttachedProgram &p : status->hooks)
    if (p.what.device == device && direction_name(p.what.direction) == hook)
      s += (s.empty() ? "" : " ") + p.what.program;
  return s;
}

Fd Host::neighbour() const {
  const bpf_insn insns[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, -1},
                            {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  Fd fd(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "neighbour", "GPL", insns, 2, nullptr));
  EXPECT_TRUE(fd) << std::strerror(errno);
  return fd;
}

void Host::neighbour_filter(const std::string &device, const std::string &hook, unsigned priority) {
  auto nl = Rtnl::open();
  ASSERT_TRUE(nl);
  dp_direction direction = hook == "ingress" ? DP_DIR_INGRESS : DP_DIR_EGRESS;
  uint32_t ifindex = ::if_nametoindex(device.c_str());
  ASSERT_TRUE(ensure_clsact(*nl, ifindex, device, direction));
  Fd prog = neighbour();
  auto added = add_filter(*nl, ifindex, device, direction, prog.get(), "neighbour", priority);
  ASSERT_TRUE(added) << text(added.errors());
}

void BothModes::SetUp() {
  Host::SetUp();
  if (GetParam() == AttachMode::tcx && !tcx_supported())
    GTEST_SKIP() << "this kernel has no TCX (Linux 6.6 has it)";
}

} // namespace doppel::hosttest
