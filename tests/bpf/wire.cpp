// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/wire.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace doppel::bpftest {

using packet::Bytes;

namespace {

// struct virtio_net_hdr (virtio 1.2, 5.1.6) in host order; <linux/virtio_net.h> is no C++.
struct OffloadHeader {
  uint8_t flags, gso_type;
  uint16_t hdr_len, gso_size, csum_start, csum_offset;
};
constexpr uint8_t kNeedsChecksum = 1;
constexpr uint8_t kGsoNone = 0, kGsoTcp4 = 1, kGsoTcp6 = 4;

constexpr size_t kLargest = 128 * 1024;
constexpr uint16_t kMarker = 0x88b5; // IEEE 802: local experimental EtherType 1
// Where ksoftirqd runs already, what is sent waits for it (before 6.4, d15121be7485), and a marker
// is queued before there is what the frame ahead of it leads to: by doppel0, to the target, and
// back.
constexpr int kMarkers = 4;

[[noreturn]] void fail(const char *what) {
  throw std::system_error(errno, std::generic_category(), what);
}

void enable(int fd, int option) {
  const int on = 1;
  if (setsockopt(fd, SOL_PACKET, option, &on, sizeof on))
    fail("setsockopt SOL_PACKET");
}

// The kernel takes a tag out of the frame and tells it apart; put it back where it was.
void restore_tag(Bytes &frame, const tpacket_auxdata &aux) {
  if (!(aux.tp_status & TP_STATUS_VLAN_VALID))
    return;
  Bytes tag;
  packet::put16(tag, aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETH_P_8021Q);
  packet::put16(tag, aux.tp_vlan_tci);
  frame.insert(frame.begin() + 12, tag.begin(), tag.end());
}

} // namespace

PacketSocket::PacketSocket(const char *device) : buffer_(kLargest) {
  fd_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
  if (fd_ < 0)
    fail("socket AF_PACKET");
  enable(fd_, PACKET_AUXDATA);
  enable(fd_, PACKET_VNET_HDR);
  enable(fd_, PACKET_IGNORE_OUTGOING);
  const int bytes = 8 << 20;
  setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(if_nametoindex(device));
  if (address.sll_ifindex == 0 || bind(fd_, reinterpret_cast<sockaddr *>(&address), sizeof address))
    fail(device);
}

PacketSocket::~PacketSocket() { close(fd_); }

bool PacketSocket::send_with(const void *header, const Bytes &frame) {
  iovec parts[] = {{const_cast<void *>(header), sizeof(OffloadHeader)},
                   {const_cast<uint8_t *>(frame.data()), frame.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  if (sendmsg(fd_, &message, 0) >= 0)
    return true;
  if (errno != ENOBUFS) // NET_XMIT_DROP
    fail("sendmsg AF_PACKET");
  return false;
}

bool PacketSocket::send(const Bytes &frame) {
  const OffloadHeader plain{};
  return send_with(&plain, frame);
}

void PacketSocket::send_offloaded(const packet::Packet &p, uint16_t gso_size) {
  const size_t l4 = p.l4_offset();
  OffloadHeader header{};
  header.flags = kNeedsChecksum;
  header.csum_start = static_cast<uint16_t>(l4);
  header.csum_offset = 16;
  if (gso_size) {
    header.gso_type = p.is_ip6() ? kGsoTcp6 : kGsoTcp4;
    header.gso_size = gso_size;
    header.hdr_len = static_cast<uint16_t>(l4 + p.l4_header_size());
  }
  send_with(&header, packet::Packet(p).partial_checksum().build());
}

std::optional<Received> PacketSocket::receive(int timeout_ms) {
  pollfd ready{fd_, POLLIN, 0};
  if (poll(&ready, 1, timeout_ms) <= 0)
    return std::nullopt;
  OffloadHeader header{};
  iovec parts[] = {{&header, sizeof header}, {buffer_.data(), buffer_.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(tpacket_auxdata))];
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n = recvmsg(fd_, &message, MSG_DONTWAIT);
  if (n < static_cast<ssize_t>(sizeof header))
    fail("recvmsg AF_PACKET");
  Bytes frame(buffer_.begin(), buffer_.begin() + n - static_cast<ssize_t>(sizeof header));
  for (cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA)
      continue;
    tpacket_auxdata aux;
    std::memcpy(&aux, CMSG_DATA(c), sizeof aux);
    restore_tag(frame, aux);
  }
  Received out;
  out.partial = header.flags & kNeedsChecksum;
  out.gso_size = header.gso_type == kGsoNone ? 0 : header.gso_size;
  out.view = packet::parse(frame, out.partial ? packet::ChecksumState::partial
                                              : packet::ChecksumState::complete);
  return out;
}

void Wire::collect_up_to_marker(std::vector<Received> &out) {
  const uint32_t number = ++markers_;
  Bytes body;
  packet::put32(body, number);
  body.resize(46);
  near_.send(packet::Packet().ethertype(kMarker).l3(body).build());
  while (true) {
    std::optional<Received> got = far_.receive(2000);
    if (!got)
      throw std::runtime_error("a marker did not come through the wire within 2 s");
    if (got->view.ethertype != kMarker)
      out.push_back(std::move(*got));
    else if (packet::get32(&got->view.frame[14]) == number)
      break;
  }
}

std::vector<Received> Wire::collect() {
  std::vector<Received> out;
  for (int i = 0; i < kMarkers; i++)
    collect_up_to_marker(out);
  while (near_.receive(0))
    ; // what we put in ourselves
  return out;
}

} // namespace doppel::bpftest
