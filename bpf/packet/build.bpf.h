/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A segment of our own making: any packet is the template, its content is replaced. SYN, ACK,
 * FIN, RST, and payload from the store. The only place where headers are written from nothing, so
 * their offsets are constants here.
 */
#ifndef DOPPEL_BUILD_BPF_H
#define DOPPEL_BUILD_BPF_H

#include "packet/csum.bpf.h"
#include "packet/headers.bpf.h"
#include "packet/template.bpf.h"
#include "packet/txreq.bpf.h"
#include "store.bpf.h"
#include "tcp/preamble.bpf.h"
#include "tcp/shadow.bpf.h"

#define SEG_MAX_PAYLOAD 1460u /* what one build carries at most, bytes */
#define SYN_OPTIONS_LEN 20

/* TCP's header has one place, and that of IP ends before it. */
struct segment_headers {
	union {
		struct ipv6hdr ip6;
		struct {
			__u8 unused[IPV6_MORE];
			struct iphdr ip;
		};
	};
	struct tcp_header tcp;
	__u8 opt[SYN_OPTIONS_LEN];
};

static __always_inline void put_ts(__u8 *o, __u32 val, __u32 ecr)
{
	o[0] = TCPOPT_TIMESTAMP;
	o[1] = 10;
	o[2] = val >> 24;
	o[3] = val >> 16;
	o[4] = val >> 8;
	o[5] = val;
	o[6] = ecr >> 24;
	o[7] = ecr >> 16;
	o[8] = ecr >> 8;
	o[9] = ecr;
}

/* In any sequence; each only if the client offered it, so that both connections are of one kind. */
static __always_inline __u32 syn_options(__u8 *o, const struct dp_shadow *sh, __u32 flags)
{
	o[0] = TCPOPT_MSS;
	o[1] = 4;
	o[2] = sh->tcp.mss_offer >> 8;
	o[3] = sh->tcp.mss_offer;
	o[4] = flags & DP_SH_SACK ? TCPOPT_SACK_PERM : TCPOPT_NOP;
	o[5] = flags & DP_SH_SACK ? 2 : TCPOPT_NOP;
	if (flags & DP_SH_TS)
		put_ts(o + 6, sh->tcp.ts_val, 0);
	else
		__builtin_memset(o + 6, TCPOPT_NOP, 10);
	o[16] = TCPOPT_NOP;
	o[17] = flags & DP_SH_WSCALE ? TCPOPT_WSCALE : TCPOPT_NOP;
	o[18] = flags & DP_SH_WSCALE ? 3 : TCPOPT_NOP;
	o[19] = flags & DP_SH_WSCALE ? sh->tcp.rcv_wscale : TCPOPT_NOP;
	return SYN_OPTIONS_LEN;
}

/* Returns how many bytes of options there are. */
static __always_inline __u32 tcp_options(__u8 *o, const struct dp_shadow *sh, __u32 flags,
					 const struct segment *g)
{
	if (g->flags & TCP_SYN)
		return syn_options(o, sh, flags);
	/* A RST needs none (RFC 7323, 3.2), and with one that is lower than what a target in
	 * TIME-WAIT remembers it would be refused (tcp_paws_reject).
	 */
	if (!(flags & DP_SH_TS) || (g->flags & TCP_RST))
		return 0;
	o[0] = TCPOPT_NOP;
	o[1] = TCPOPT_NOP;
	put_ts(o + 2, sh->tcp.ts_val, sh->tcp.ts_recent);
	return TS_LEN;
}

/* len: bytes of TCP options and payload. */
static __always_inline void ip_header(struct iphdr *ip, const struct dp_shadow *sh, __u32 len)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(HEADERS_LEN + len);
	ip->frag_off = bpf_htons(IP_DF); /* and therefore id 0 (RFC 6864) */
	ip->ttl = sh->tcp.ttl;
	ip->protocol = IPPROTO_TCP;
	ip->saddr = addr_v4(&sh->ep.shadow_addr);
	ip->daddr = addr_v4(&sh->ep.address);
	ip->check = ip_checksum(ip);
}

static __always_inline void ipv6_header(struct ipv6hdr *ip, const struct dp_shadow *sh, __u32 len)
{
	ip->version = 6;
	ip->payload_len = bpf_htons(20 + len);
	ip->nexthdr = IPPROTO_TCP;
	ip->hop_limit = sh->tcp.ttl;
	__builtin_memcpy(&ip->saddr, &sh->ep.shadow_addr, 16);
	__builtin_memcpy(&ip->daddr, &sh->ep.address, 16);
}

/* All but the checksum, which is 0. */
static __always_inline void tcp_header(struct tcp_header *tcp, const struct dp_shadow *sh,
				       const struct segment *g, __u32 optlen)
{
	tcp->source = sh->ep.shadow_port;
	tcp->dest = sh->ep.target_port;
	tcp->seq = bpf_htonl(g->seq);
	tcp->ack = g->flags & TCP_ACK ? bpf_htonl(sh->tcp.rcv_nxt) : 0;
	tcp->doff = (5 + (optlen >> 2)) << 4;
	tcp->flags = g->flags;
	tcp->window = bpf_htons(RCV_WINDOW);
}

/* BPF_F_RECOMPUTE_CSUM: a CHECKSUM_COMPLETE template keeps a true skb->csum. */
static __always_inline long store_from(struct __sk_buff *skb, const void *headers, __u32 len,
				       __u32 optlen)
{
	if (optlen == SYN_OPTIONS_LEN)
		return bpf_skb_store_bytes(skb, IP_OFF, headers, len + SYN_OPTIONS_LEN,
					   BPF_F_RECOMPUTE_CSUM);
	if (optlen == TS_LEN)
		return bpf_skb_store_bytes(skb, IP_OFF, headers, len + TS_LEN,
					   BPF_F_RECOMPUTE_CSUM);
	return bpf_skb_store_bytes(skb, IP_OFF, headers, len, BPF_F_RECOMPUTE_CSUM);
}

static __always_inline long store_headers(struct __sk_buff *skb, const struct segment_headers *n,
					  bool v6, __u32 optlen)
{
	return v6 ? store_from(skb, &n->ip6, HEADERS_LEN + IPV6_MORE, optlen)
		  : store_from(skb, &n->ip, HEADERS_LEN, optlen);
}

static __always_inline long swap_ethernet(struct __sk_buff *skb)
{
	__u8 mac[12], swapped[12];

	if (bpf_skb_load_bytes(skb, 0, mac, 12))
		return -1;
	__builtin_memcpy(swapped, mac + 6, 6);
	__builtin_memcpy(swapped + 6, mac, 6);
	return bpf_skb_store_bytes(skb, 0, swapped, 12, BPF_F_RECOMPUTE_CSUM);
}

/* The template becomes the segment; 0, or -1. The caller redirects it. */
GLOBAL int segment_build(struct __sk_buff *skb, __u32 slot, const struct segment *g)
{
	struct dp_shadow *sh = shadow_at(slot);
	__u32 optlen, len, zero = 0, gen;
	struct segment_headers n = {};
	struct scratch_space *s;
	__u64 sum, pseudo;
	bool partial, v6;

	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s || !sh || !g || g->len > SEG_MAX_PAYLOAD)
		return -1;
	len = g->len;
	gen = sh->gen;
	if (len && is_preamble(sh, g->seq)) {
		if (preamble_read(s, sh, len) || sh->gen != gen)
			return -1;
	} else if (len && (store_read(s, slot, sh->tcp.store_gen, g->seq, len) ||
			   store_is_gone(sh, gen, g->seq))) {
		return -1;
	}
	optlen = tcp_options(n.opt, sh, sh->tcp.flags, g);
	v6 = shadow_is_v6(sh);
	if (template_fit(skb, v6, optlen + len))
		return -1;
	partial = summed_by(skb) == SUMMED_PARTIAL;
	if (v6)
		ipv6_header(&n.ip6, sh, optlen + len);
	else
		ip_header(&n.ip, sh, optlen + len);
	tcp_header(&n.tcp, sh, g, optlen);
	pseudo = pseudo_sum(&sh->ep.shadow_addr, &sh->ep.address, 20 + optlen + len);
	if (partial) {
		n.tcp.check = csum_fold(pseudo);
	} else {
		/* opt[] is zero beyond optlen, so all of it may be summed. */
		sum = pseudo + (__u32)bpf_csum_diff(0, 0, (__be32 *)&n.tcp, 40, 0);
		if (len)
			sum += scratch_sum(s, len);
		n.tcp.check = ~csum_fold(sum);
	}
	if (store_headers(skb, &n, v6, optlen))
		return -1;
	if (len) {
		asm volatile("%[n] += -1\n\t%[n] &= 2047\n\t%[n] += 1" : [n] "+r"(len));
		if (bpf_skb_store_bytes(skb, template_options(v6) + optlen, s->data, len,
					BPF_F_RECOMPUTE_CSUM))
			return -1;
	}
	return g->turn && swap_ethernet(skb) ? -1 : 0;
}

#endif
