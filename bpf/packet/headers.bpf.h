/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The shape of headers on the wire, and of those that we write. */
#ifndef DOPPEL_HEADERS_BPF_H
#define DOPPEL_HEADERS_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_endian.h>

/* RFC 9293, 3.1: byte 13 of the TCP header. */
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_URG 0x20

#define TCPOPT_EOL	 0
#define TCPOPT_NOP	 1
#define TCPOPT_MSS	 2
#define TCPOPT_WSCALE	 3
#define TCPOPT_SACK_PERM 4
#define TCPOPT_SACK	 5
#define TCPOPT_TIMESTAMP 8
#define TCPOPT_MD5SIG	 19 /* RFC 2385 */
#define TCPOPT_AO	 29 /* RFC 5925 */
#define TCPOPT_MPTCP	 30 /* RFC 8684 */

#define TCP_MAX_WSCALE 14 /* RFC 7323, 2.3 */

struct tcp_header {
	__be16 source;
	__be16 dest;
	__be32 seq;
	__be32 ack;
	__u8 doff; /* upper four bits */
	__u8 flags;
	__be16 window;
	__be16 check;
	__be16 urg;
};

struct udp_header {
	__be16 source;
	__be16 dest;
	__be16 len;
	__be16 check;
};

#define UDP_LEN sizeof(struct udp_header)

/* RFC 8200, 4.5. */
struct ipv6_fragment {
	__u8 next;
	__u8 reserved;
	__be16 offset; /* in units of 8 bytes << 3, and "more" in the lowest bit */
	__be32 id;
};

struct ipv4_tcp {
	struct iphdr ip;
	struct tcp_header tcp;
};

struct ipv6_tcp {
	struct ipv6hdr ip;
	struct tcp_header tcp;
};

#define VLAN_VID_MASK 0x0fff /* of the tag control information; IEEE 802.1Q, 9.6 */

/* Where peek_port() looks, and where headers lie in what we write: no VLAN, no IP options. */
#define IP_OFF	   ETH_HLEN
#define TCP_OFF	   (ETH_HLEN + 20)
#define OPT_OFF	   (TCP_OFF + 20)
#define CHECK_OFF  (TCP_OFF + 16)
#define TCP6_OFF   (ETH_HLEN + 40)
#define OPT6_OFF   (TCP6_OFF + 20)
#define CHECK6_OFF (TCP6_OFF + 16)

#define IPV6_MORE 20 /* bytes that its header is longer than IPv4's */

/* "NOP NOP TS len=10": how every common stack lays out its timestamps (RFC 7323, app. A) */
#define TS_PREFIX bpf_htonl(0x0101080a)

#define HEADERS_LEN 40 /* IPv4 and TCP without options; for IPv6 IPV6_MORE more */
#define TS_LEN	    12 /* NOP NOP TS */

#endif
