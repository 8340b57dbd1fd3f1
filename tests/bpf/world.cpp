// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/world.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
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

packet::Ip6 v6_of(packet::Ip4 address) {
  packet::Ip6 six("fd09::1");
  for (unsigned i = 0; i < 4; i++) // a /64 each, as hosts have: see client_row()
    six.b[4 + i] = static_cast<uint8_t>(address.host >> (24 - 8 * i));
  return six;
}

packet::Packet between(packet::Packet p, packet::Ip4 src, packet::Ip4 dst, bool six) {
  return six ? p.ip6(v6_of(src), v6_of(dst)) : p.ip4(src, dst);
}

SocketAddress::SocketAddress(packet::Ip4 address, uint16_t port, bool six) {
  if (six) {
    auto &in6 = reinterpret_cast<sockaddr_in6 &>(raw);
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(port);
    std::memcpy(&in6.sin6_addr, v6_of(address).b.data(), sizeof in6.sin6_addr);
    size = sizeof in6;
    return;
  }
  auto &in = reinterpret_cast<sockaddr_in &>(raw);
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  in.sin_addr.s_addr = address.network();
  size = sizeof in;
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

namespace {
Families current;
}

Families World::families() { return current; }

World &World::enter(AttachMode mode, Families families) {
  static std::map<std::pair<AttachMode, bool>, std::unique_ptr<World>> worlds;
  std::unique_ptr<World> &world = worlds[{mode, families.target6}];
  current = families;
  if (!world)
    world.reset(new World(families.target6));
  world->enter_namespaces();
  return *world;
}

World::World(bool target6) {
  // One CPU: the backlogs are then first in, first out across everything that a test causes.
  cpu_set_t one;
  CPU_ZERO(&one);
  static const int cpu = std::max(0, sched_getcpu());
  CPU_SET(cpu, &one);
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
  for (const packet::Ip4 own : {c.host, c.further})
    sh("ip addr add " + own.text() + "/24 dev " + kCapture);
  for (const char *device : {kCapture, kWire, kTap, kTapPeer})
    sh(name("ip link set ") + device + " up");
  sh("ip neigh replace " + c.target.text() + " lladdr " + c.target_mac.text() + " dev " + kCapture +
     " nud permanent");
  if (target6) {
    const std::string conf = name("/proc/sys/net/ipv6/conf/") + kCapture;
    // The stack then says nothing by itself but what joins multicast groups.
    sh("echo 0 > " + conf + "/router_solicitations; echo 1 > " + conf + "/addr_gen_mode");
    sh("echo 0 > " + conf + "/disable_ipv6");
    // Segments of all worlds are of one size, as the tests have it.
    sh("ip link set " + name(kCapture) + " mtu 1520; ip link set " + kWire + " mtu 1520");
    sh("ip -6 addr add " + v6_of(c.host).text() + "/32 dev " + kCapture + " nodad");
    // Deprecated, so that no route says it (RFC 6724, 5).
    sh("ip -6 addr add " + v6_of(c.further).text() + "/32 dev " + kCapture +
       " nodad preferred_lft 0");
    sh("ip -6 neigh replace " + v6_of(c.target).text() + " lladdr " + c.target_mac.text() +
       " dev " + kCapture + " nud permanent");
  }
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
