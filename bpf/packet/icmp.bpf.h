/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors: which packet of ours one is about, and what it says (RFC 792, 1191, 4443). */
#ifndef DOPPEL_ICMP_BPF_H
#define DOPPEL_ICMP_BPF_H

#include "packet/addr.bpf.h"
#include "packet/headers.bpf.h"

#define ICMP_DEST_UNREACH  3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMP_PORT_UNREACH  3 /* a code of ICMP_DEST_UNREACH */
#define ICMP_FRAG_NEEDED   4 /* the same */

/* RFC 4443, 3: the types that are errors. */
#define ICMPV6_DEST_UNREACH  1
#define ICMPV6_PKT_TOOBIG    2
#define ICMPV6_TIME_EXCEEDED 3
#define ICMPV6_PARAMPROB     4
#define ICMPV6_PORT_UNREACH  4 /* a code of ICMPV6_DEST_UNREACH */

struct icmp_header {
	__u8 type;
	__u8 code;
	__be16 check;
	__be16 unused;
	__be16 mtu; /* of the next hop; 0: the router is older than RFC 1191 */
};

struct icmpv6_header {
	__u8 type;
	__u8 code;
	__be16 check;
	__be32 mtu; /* ICMPV6_PKT_TOOBIG */
};

/* The packet that was quoted: its IP header, and the first 8 bytes of TCP's or UDP's, which every
 * router returns (RFC 792).
 */
struct icmp_quote {
	struct dp_addr saddr;
	struct dp_addr daddr;
	__be16 sport;
	__be16 dport;
	__u32 seq;   /* of TCP */
	__u32 mtu;   /* too big: what the next hop takes, bytes of IP packet; else 0 */
	__u8 proto;  /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 closed; /* the target has nobody for the port */
};

/* A glance: is it IP, without options, and ICMP? */
static __always_inline bool peek_icmp(struct __sk_buff *skb)
{
	long start = skb->data, end = skb->data_end;
	const __u8 *data = (const __u8 *)start;

	if (start + IP_OFF + (long)sizeof(struct iphdr) > end)
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return data[IP_OFF + 6] == IPPROTO_ICMPV6;
	return skb->protocol == bpf_htons(ETH_P_IP) && data[IP_OFF] == 0x45 &&
	       data[IP_OFF + 9] == IPPROTO_ICMP;
}

/* RFC 1191, 7.1: what the next smaller kind of link takes, for a router that does not tell. */
static __always_inline __u32 mtu_plateau(__u32 length)
{
	return length > 1492 ? 1492 : length > 1006 ? 1006 : length > 508 ? 508 : 296;
}

/* Ports and sequence number, of the 8 bytes at `at`. */
static __always_inline bool icmp_quoted(struct __sk_buff *skb, __u32 at, __u8 proto,
					struct icmp_quote *q)
{
	__be32 w[2];

	if ((proto != IPPROTO_TCP && proto != IPPROTO_UDP) ||
	    bpf_skb_load_bytes(skb, at, w, sizeof(w)))
		return false;
	q->proto = proto;
	q->sport = bpf_htons(bpf_ntohl(w[0]) >> 16);
	q->dport = bpf_htons(bpf_ntohl(w[0]));
	q->seq = bpf_ntohl(w[1]);
	return true;
}

/* A router quotes as much as 1280 bytes take (RFC 4443, 3), and our segments have no extension. */
static __always_inline bool icmp_parse_v6(struct __sk_buff *skb, struct icmp_quote *q)
{
	__u32 at = IP_OFF + sizeof(struct ipv6hdr);
	struct icmpv6_header icmp;
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, at, &icmp, sizeof(icmp)))
		return false;
	if (icmp.type < ICMPV6_DEST_UNREACH || icmp.type > ICMPV6_PARAMPROB)
		return false;
	at += sizeof(icmp);
	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 6 ||
	    !icmp_quoted(skb, at + sizeof(ip), ip.nexthdr, q))
		return false;
	q->closed = icmp.type == ICMPV6_DEST_UNREACH && icmp.code == ICMPV6_PORT_UNREACH;
	q->saddr = addr_of_v6(&ip.saddr);
	q->daddr = addr_of_v6(&ip.daddr);
	q->mtu = icmp.type == ICMPV6_PKT_TOOBIG ? bpf_ntohl(icmp.mtu) : 0;
	return true;
}

static __always_inline bool icmp_parse_v4(struct __sk_buff *skb, struct icmp_quote *q)
{
	__u32 at = IP_OFF + sizeof(struct iphdr);
	struct icmp_header icmp;
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, IP_OFF, &ip, sizeof(ip)) ||
	    (ip.frag_off & bpf_htons(IP_OFFSET | IP_MF)) ||
	    bpf_skb_load_bytes(skb, at, &icmp, sizeof(icmp)))
		return false;
	if (icmp.type != ICMP_DEST_UNREACH && icmp.type != ICMP_TIME_EXCEEDED &&
	    icmp.type != ICMP_PARAMETERPROB)
		return false;
	at += sizeof(icmp);
	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl != 5 ||
	    (ip.frag_off & bpf_htons(IP_OFFSET)) ||
	    !icmp_quoted(skb, at + sizeof(ip), ip.protocol, q))
		return false;
	q->closed = icmp.type == ICMP_DEST_UNREACH && icmp.code == ICMP_PORT_UNREACH;
	q->saddr = addr_of_v4(ip.saddr);
	q->daddr = addr_of_v4(ip.daddr);
	q->mtu = 0;
	if (icmp.type == ICMP_DEST_UNREACH && icmp.code == ICMP_FRAG_NEEDED)
		q->mtu = bpf_ntohs(icmp.mtu) ?: mtu_plateau(bpf_ntohs(ip.tot_len));
	return true;
}

/*
 * What an ICMP error quotes. False: it is none, or quotes no packet of TCP or UDP. The error's
 * checksum is not verified: a quote must name a segment that is on its way, which damage does not
 * bring about.
 */
static __always_inline bool icmp_parse(struct __sk_buff *skb, struct icmp_quote *q)
{
	return skb->protocol == bpf_htons(ETH_P_IPV6) ? icmp_parse_v6(skb, q)
						      : icmp_parse_v4(skb, q);
}

#endif
