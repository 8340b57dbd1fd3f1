// SPDX-License-Identifier: Apache-2.0
// The TCP sockets of this network namespace, as the kernel lists them (sock_diag(7)).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "doppel/abi.h"
#include "userspace/util/error.h"
#include "userspace/util/text.h"

namespace doppel {

struct TcpSocket {
  dp_addr local{}, remote{};              // network order, IPv4 as ::ffff:a.b.c.d
  __be16 local_port = 0, remote_port = 0; // network order
  uint8_t state = 0;                      // TCP_* of <netinet/tcp.h>; a request is TCP_SYN_RECV
  bool held = false;                      // by a process; not yet, as long as it is not accepted
  uint32_t ifindex = 0;                   // the one device that it is bound to; 0: it is not
  bool v6 = false, v6_only = false;       // of AF_INET6; IPV6_V6ONLY, of one that listens
  // With traffic only, else 0. Silence is counted from the last segment with payload, in ms; of a
  // socket that has had none, from its beginning.
  uint64_t bytes_received = 0, bytes_sent = 0;
  uint32_t received_ms = 0, sent_ms = 0;
};

// Which sockets, and what of them.
enum class SocketKind {
  connected,    // in none of the states CLOSED, LISTEN and TIME-WAIT
  listening,    // LISTEN
  with_traffic, // connected, and what went over them: twice the time
};

// Which ports a socket must have to be told of: one of `local` at this end, or one of `remote` at
// the other. Each range is inclusive, in host order.
struct SocketPorts {
  std::vector<PortRange> local, remote;
};

// Calls `see` once for each TCP socket, IPv4 and IPv6, that `ports` lets through and that is of
// that kind. Those of other network namespaces are not seen.
//
// The kernel filters, so that what costs time here is what is wanted; it walks its whole table all
// the same, with the sockets of other network namespaces. The list is not one moment's state: a
// socket that is there all the time may be left out, once in a great while, when one before it in
// its hash bucket goes while the list is fetched. Needs no privilege. Fails where the kernel has no
// CONFIG_INET_DIAG or CONFIG_INET_TCP_DIAG, in whole: what was seen until then means nothing.
Status each_tcp_socket(const SocketPorts &ports, const std::function<void(const TcpSocket &)> &see,
                       SocketKind kind = SocketKind::connected);

// Whether the server's end still takes bytes of the client: RFC 9293's SYN-RECEIVED, ESTABLISHED,
// and FIN-WAIT as long as a process holds the socket, which may have closed one direction only.
// Once nobody holds it Linux answers new bytes with a RST (tcp_rcv_state_process()). CLOSE-WAIT
// counts as well, though the client's FIN is there: the conversation goes on, and its end is the
// server's to say. CLOSING, LAST-ACK and TIME-WAIT are over.
bool server_goes_on(const TcpSocket &socket);

// Whether the client's end may still send bytes. As long as its FIN is not acknowledged it may have
// some to send or to send again, whether a process holds it or not: all but FIN-WAIT-2 and
// TIME-WAIT.
bool client_goes_on(const TcpSocket &socket);

} // namespace doppel
