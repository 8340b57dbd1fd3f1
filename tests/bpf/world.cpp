// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/world.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <system_error>

namespace doppel::bpftest {

namespace {

void check(int rc, const char *what) {
  if (rc < 0)
    throw std::system_error(errno, std::generic_category(), what);
}

// A program that loads is the proof that bpf(2) is there and allowed.
std::string bpf_refused() {
  const bpf_insn insns[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0},
                            {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  const int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "witness", "GPL", insns, 2, nullptr);
  if (fd < 0)
    return std::string("the kernel does not let us load a BPF program: ") + std::strerror(errno);
  close(fd);
  return {};
}

std::string decide() {
  if (geteuid() != 0)
    return "these tests need root";
  const int net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  if (net < 0)
    return "no /proc/self/ns/net";
  std::string reason;
  if (unshare(CLONE_NEWNET) < 0)
    reason = std::string("no network namespace of our own: ") + std::strerror(errno);
  else if (unshare(CLONE_NEWNS) < 0)
    reason = std::string("no mount namespace of our own: ") + std::strerror(errno);
  else
    reason = bpf_refused();
  close(net);
  return reason;
}

} // namespace

const Cast &cast() {
  static const Cast c;
  return c;
}

void sh(const std::string &command) {
  std::unique_ptr<FILE, int (*)(FILE *)> pipe(popen((command + " 2>&1").c_str(), "r"), pclose);
  if (!pipe)
    throw std::system_error(errno, std::generic_category(), command);
  std::string output;
  std::array<char, 512> buffer;
  while (std::fgets(buffer.data(), buffer.size(), pipe.get()))
    output += buffer.data();
  if (const int status = pclose(pipe.release()); status != 0)
    throw std::runtime_error(command + ": " + output);
}

const std::string &World::why_not() {
  static const std::string reason = decide();
  return reason;
}

World &World::enter(AttachMode mode) {
  static std::map<AttachMode, std::unique_ptr<World>> worlds;
  std::unique_ptr<World> &world = worlds[mode];
  if (!world)
    world.reset(new World);
  world->enter_namespaces();
  return *world;
}

World::World() {
  // One CPU: the backlogs are then first in, first out across everything that a test causes.
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  check(sched_setaffinity(0, sizeof one, &one), "sched_setaffinity");

  check(unshare(CLONE_NEWNET | CLONE_NEWNS), "unshare");
  check(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "mount / private");
  check(mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr), "mount bpffs");
  net_ = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  mnt_ = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  check(net_, "own network namespace");
  check(mnt_, "own mount namespace");

  const Cast &c = cast();
  const auto name = [](const char *text) { return std::string(text); };
  sh("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6 || true");
  sh("ip link set lo up");
  sh("ip link add " + name(kCapture) + " address " + c.host_mac.text() + " type veth peer name " +
     kWire);
  sh("ip link add " + name(kTap) + " type veth peer name " + kTapPeer);
  sh("ip addr add " + c.host.text() + "/24 dev " + kCapture);
  for (const char *device : {kCapture, kWire, kTap, kTapPeer})
    sh(name("ip link set ") + device + " up");
  sh("ip neigh replace " + c.target.text() + " lladdr " + c.target_mac.text() + " dev " + kCapture +
     " nud permanent");
  cap_index_ = if_nametoindex(kCapture);
  tap_index_ = if_nametoindex(kTap);
  wire_ = std::make_unique<Wire>(kCapture, kWire);
  tap_ = std::make_unique<Wire>(kTap, kTapPeer);
}

void World::enter_namespaces() const {
  check(setns(net_, CLONE_NEWNET), "setns net");
  check(setns(mnt_, CLONE_NEWNS), "setns mnt");
}

} // namespace doppel::bpftest
