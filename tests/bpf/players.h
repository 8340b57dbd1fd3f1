// SPDX-License-Identifier: Apache-2.0
// The two ends that a test plays: a client of the source, and the target that gets the copies.
// They keep the numbers of RFC 9293 and make the next packet; they decide nothing by themselves.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bpf/world.h"
#include "tests/packet/packet.h"
#include "tests/packet/view.h"

namespace doppel::bpftest {

// Which TCP options an end offers in its SYN.
struct Offer {
  bool mss = true, sack = true, timestamps = true, wscale = true;
  uint16_t mss_value = 1460;
  uint8_t shift = 7;
};
std::vector<packet::Bytes> syn_options(const Offer &offer, uint32_t tsval, uint32_t tsecr);

// A client's view of its conversation with the source. Each call makes a packet as it arrives at
// this host and moves the client's numbers on.
struct Client {
  packet::Ip4 ip = cast().client;
  uint16_t port = 0, server_port = 11211;
  uint32_t isn = 1000, next = 1000; // next: the next sequence number to use
  uint32_t server_next = 500001;    // what we acknowledge: the source's stream
  uint32_t tsval = 70000, tsecr = 4000;
  uint8_t ttl = 64, tos = 0;
  uint16_t window = 501, id = 100;
  Offer offer;
  bool timestamps = true; // on every segment

  packet::Packet syn();
  packet::Packet ack(); // without payload
  packet::Packet data(std::string_view text, unsigned flags = packet::PSH);
  packet::Packet fin();
  packet::Packet rst();
  // Any segment, without moving on.
  packet::Packet segment(uint32_t seq, unsigned flags, std::string_view text = {});
  packet::Packet to_server() const; // addresses alone
  // The source has answered so many bytes.
  void answered(uint32_t bytes) { server_next += bytes; }
};

// The target's end of one shadow.
struct Target {
  packet::Ip4 shadow = cast().host; // the address that the shadow has
  uint16_t shadow_port = 0, port = 21211;
  uint32_t isn = 800000, next = 800000;
  uint32_t received_next = 0; // our ACK: the client's stream
  uint32_t tsval = 90000, tsecr = 0;
  uint16_t window = 502;
  Offer offer;
  bool timestamps = true;
  std::string received; // the stream, in order

  // Takes the shadow's SYN.
  void meets(const packet::View &syn);
  // Takes a segment of the shadow; payload must be the next in order.
  // Returns what is wrong with it, or nothing.
  std::string takes(const packet::View &v);

  packet::Packet syn_ack();
  packet::Packet ack(); // acknowledges all that was received
  packet::Packet response(std::string_view text);
  packet::Packet fin();
  packet::Packet rst();
  packet::Packet segment(uint32_t seq, unsigned flags, std::string_view text = {});
};

// How a shadow's segment must look, headers in full. Copies of a client's packet and segments
// made from the store differ in the IP id and the TTL alone.
struct Expected {
  const Client &client;
  const Target &target;

  // A copy of `original`, rewritten on the fast path; made where the IP versions differ.
  packet::View copy_of(const packet::Packet &original, std::string_view text,
                       unsigned flags = packet::PSH) const;
  // Made by doppel itself.
  packet::View made(uint32_t seq, unsigned flags, std::string_view text = {}) const;
  packet::View syn(uint16_t mss, uint8_t shift) const;
};

} // namespace doppel::bpftest
