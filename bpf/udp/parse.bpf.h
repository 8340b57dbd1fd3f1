/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Datagrams of UDP (RFC 768), whole or in fragments. Of struct pkt these are valid: addresses,
 * ports, payload, check, offsets, ttl, v6, udp; and for fragments seq, the identification of IP.
 */
#ifndef DOPPEL_UDP_PARSE_BPF_H
#define DOPPEL_UDP_PARSE_BPF_H

#include "packet/parse.bpf.h"

/*
 * What the header of UDP says. space: bytes that IP has for it and the payload. The length counts,
 * and what is behind it is no payload (udp4_csum_init, __udp4_lib_rcv: pskb_trim_rcsum).
 */
static __always_inline enum pkt_shape udp_parse_header(struct __sk_buff *skb, struct pkt *p,
						       __u32 space, bool more)
{
	struct udp_header h;
	__u32 len;

	if (bpf_skb_load_bytes(skb, p->l4_off, &h, sizeof(h)))
		return PKT_NONE;
	p->sport = h.source;
	p->dport = h.dest;
	p->check = h.check;
	p->data_off = p->l4_off + UDP_LEN;
	len = bpf_ntohs(h.len);
	p->payload = len > UDP_LEN ? len - UDP_LEN : 0;
	if (len < UDP_LEN || (!more && len > space) || (more && len <= space))
		return PKT_MALFORMED;
	return more ? PKT_UDP_FIRST : PKT_UDP;
}

static __noinline enum pkt_shape udp_parse_v4(struct __sk_buff *skb, struct pkt *p)
{
	enum pkt_shape shape;
	struct iphdr ip;
	__u32 total, ihl;

	if (load_words(skb, IP_OFF, (__u32 *)&ip, sizeof(ip) / 4))
		return PKT_NONE;
	ihl = ip.ihl * 4;
	if (ip.version != 4 || ip.protocol != IPPROTO_UDP || ihl < 20)
		return PKT_NONE;
	p->saddr = addr_of_v4(ip.saddr);
	p->daddr = addr_of_v4(ip.daddr);
	p->v6 = 0;
	p->ttl = ip.ttl;
	p->seq = bpf_ntohs(ip.id);
	p->l4_off = IP_OFF + ihl;
	p->data_off = p->l4_off;
	total = bpf_ntohs(ip.tot_len);
	if (total < ihl)
		return PKT_NONE;
	if (ip.frag_off & bpf_htons(IP_OFFSET))
		return ihl == 20 ? PKT_UDP_LATER : PKT_NONE;
	shape = udp_parse_header(skb, p, total - ihl, ip.frag_off & bpf_htons(IP_MF));
	if (shape == PKT_NONE || shape == PKT_MALFORMED)
		return shape;
	if (ihl == 20 && !skb->gso_segs && csum_fold(words_sum(&ip, 5)) != 0xffff)
		return PKT_MALFORMED;
	if (total > skb->len - ETH_HLEN)
		return PKT_TRUNCATED;
	return ihl == 20 ? shape : PKT_IPOPTIONS;
}

static __noinline enum pkt_shape udp_parse_v6(struct __sk_buff *skb, struct pkt *p)
{
	struct ext_walk w = {.at = TCP6_OFF, .want = IPPROTO_UDP};
	enum pkt_shape shape;
	struct ipv6hdr ip;
	bool alone;
	__u32 len;

	if (load_words(skb, IP_OFF, (__u32 *)&ip, sizeof(ip) / 4))
		return PKT_NONE;
	if (ip.version != 6)
		return PKT_NONE;
	p->saddr = addr_of_v6(&ip.saddr);
	p->daddr = addr_of_v6(&ip.daddr);
	/* IPv4's addresses are none of IPv6's packets (ipv6_rcv, RFC 4291, 2.5.5.2). */
	if (addr_is_v4(&p->saddr) || addr_is_v4(&p->daddr))
		return PKT_NONE;
	w.next = ip.nexthdr;
	if (w.next != IPPROTO_UDP && ext_headers(skb, &w))
		return PKT_NONE;
	p->v6 = 1;
	p->ttl = ip.hop_limit;
	p->seq = bpf_ntohl(w.id);
	p->l4_off = w.at;
	p->data_off = w.at;
	alone = w.at ==
		TCP6_OFF + sizeof(struct ipv6_fragment); /* that header, if it is a fragment */
	if (w.later)
		return alone ? PKT_UDP_LATER : PKT_NONE;
	len = bpf_ntohs(ip.payload_len);
	if (len < w.at - TCP6_OFF)
		return PKT_NONE;
	shape = udp_parse_header(skb, p, len - (w.at - TCP6_OFF), w.more);
	if (shape == PKT_NONE || shape == PKT_MALFORMED)
		return shape;
	if (len > skb->len - TCP6_OFF)
		return PKT_TRUNCATED;
	/* A receiver drops the datagram that has none (RFC 8200, 8.1). */
	if (!p->check)
		return PKT_MALFORMED;
	if (shape == PKT_UDP_FIRST)
		return alone ? shape : PKT_IPOPTIONS;
	return w.at == TCP6_OFF ? shape : PKT_IPOPTIONS;
}

/* enum pkt_shape of a packet that may be one of UDP; PKT_NONE: it is not. */
GLOBAL int udp_parse(struct __sk_buff *skb, struct pkt *p)
{
	if (!p || of_a_vlan(skb))
		return PKT_NONE;
	p->udp = 1;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return udp_parse_v4(skb, p);
	return skb->protocol == bpf_htons(ETH_P_IPV6) ? udp_parse_v6(skb, p) : PKT_NONE;
}

#endif
