// SPDX-License-Identifier: Apache-2.0
// One end of a veth pair seen as the cable: frames are put on it and taken off it, offload
// descriptions included. There are no timeouts that stand for "nothing came": a marker is sent
// behind whatever was caused so far, and what arrives before it is everything.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/packet/packet.h"
#include "tests/packet/view.h"

namespace doppel::bpftest {

struct Received {
  packet::View view;
  uint16_t gso_size = 0; // 0: an ordinary frame
  bool partial = false;  // CHECKSUM_PARTIAL
};

class PacketSocket {
public:
  explicit PacketSocket(const char *device);
  ~PacketSocket();
  PacketSocket(const PacketSocket &) = delete;
  PacketSocket &operator=(const PacketSocket &) = delete;

  // False: the device or a program on it dropped the frame.
  bool send(const packet::Bytes &frame);
  // With an offload description: checksum left to the device, cut into gso_size if not 0.
  void send_offloaded(const packet::Packet &p, uint16_t gso_size);
  std::optional<Received> receive(int timeout_ms); // 0: only what is there

private:
  bool send_with(const void *header, const packet::Bytes &frame);
  int fd_ = -1;
  packet::Bytes buffer_;
};

// Frames that leave `near` toward `far`, both ends of one veth pair.
class Wire {
public:
  Wire(const char *near, const char *far) : near_(near), far_(far) {}

  PacketSocket &far() { return far_; }
  PacketSocket &near() { return near_; }
  // Everything that arrived at `far` up to now. Throws if the marker does not come through.
  std::vector<Received> collect();

private:
  void collect_up_to_marker(std::vector<Received> &out);

  PacketSocket near_, far_;
  uint32_t markers_ = 0;
};

} // namespace doppel::bpftest
