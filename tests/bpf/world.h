// SPDX-License-Identifier: Apache-2.0
// The world that a test lives in: a network and a mount namespace of its own, with bpffs, and
//
//   this host                         the network
//   cap0 02:00:00:00:00:01  <-veth->  wire0     client and target are played by the test
//   10.9.0.2/24, fd09:0:a09:2::1/32
//   tap0                    <-veth->  tap1      where a witness behind our programs copies to
//
// Worlds exist side by side, one for each attachment mode and kind of target; entering one is a
// matter of setns(2).
#pragma once

#include <sys/socket.h>

#include <memory>
#include <string>

#include "tests/bpf/wire.h"
#include "tests/packet/packet.h"
#include "userspace/config/config.h"

namespace doppel::bpftest {

inline constexpr char kCapture[] = "cap0", kWire[] = "wire0";
inline constexpr char kTap[] = "tap0", kTapPeer[] = "tap1";

// The IP version of what clients send to the source, and of what goes to the target.
struct Families {
  bool client6 = false, target6 = false;
};

// The players' addresses. That of IPv6 is v6_of() the other.
struct Cast {
  packet::Mac host_mac{"02:00:00:00:00:01"};
  packet::Mac client_mac{"02:00:00:00:00:c1"};
  packet::Mac target_mac{"02:00:00:00:00:07"};
  packet::Ip4 host{"10.9.0.2"};      // this host's address, hence the shadows'
  packet::Ip4 further{"10.9.0.200"}; // its as well, and the shadows' once it is listed
  packet::Ip4 server{"10.9.0.9"};    // not configured: its stack would answer what a test injects
  packet::Ip4 target{"10.9.0.7"};
  packet::Ip4 client{"10.9.0.50"};
};
const Cast &cast();
packet::Ip6 v6_of(packet::Ip4 address);

// From `src` to `dst`, by IPv6 if `six`.
packet::Packet between(packet::Packet p, packet::Ip4 src, packet::Ip4 dst, bool six);

class World {
public:
  // Empty: the environment allows these tests. Else why not; decided once.
  static const std::string &why_not();

  // Makes the world for this mode if need be, and enters it.
  static World &enter(AttachMode mode, Families families = {});
  // Of the world entered last.
  static Families families();

  unsigned cap_index() const { return cap_index_; }
  unsigned tap_index() const { return tap_index_; }
  Wire &wire() { return *wire_; }
  Wire &tap() { return *tap_; }

private:
  explicit World(bool target6);
  void enter_namespaces() const;

  int net_ = -1, mnt_ = -1;
  unsigned cap_index_ = 0, tap_index_ = 0;
  std::unique_ptr<Wire> wire_, tap_;
};

// An address and a port for bind(2) and connect(2), of IPv6 if `six`.
struct SocketAddress {
  SocketAddress(packet::Ip4 address, uint16_t port, bool six); // host order
  const sockaddr *get() const { return reinterpret_cast<const sockaddr *>(&raw); }
  sockaddr_storage raw{};
  socklen_t size = 0;
};

// Runs a command line; throws std::runtime_error with its output if it fails.
void sh(const std::string &command);

} // namespace doppel::bpftest
