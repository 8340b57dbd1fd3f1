/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A datagram of our own making, or a fragment of one: the clone of the captured packet becomes it,
 * with a part of that packet's payload.
 */
#ifndef DOPPEL_UDP_BUILD_BPF_H
#define DOPPEL_UDP_BUILD_BPF_H

#include "packet/csum.bpf.h"
#include "packet/headers.bpf.h"
#include "packet/send.bpf.h"
#include "packet/template.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/shadow.bpf.h"
#include "udp/rewrite.bpf.h"

/* What stands before the payload, as far as there is any of it. */
struct udp_headers {
	__u8 ip[sizeof(struct ipv6hdr)]; /* IPv4's at its end */
	struct ipv6_fragment fragment;
	struct udp_header udp;
};

static __always_inline bool piece_is_fragment(const struct piece *p)
{
	return p->at || p->len < p->whole;
}

static __always_inline bool piece_has_more(const struct piece *p)
{
	return p->at + p->len < p->whole;
}

/* len: bytes behind the header of IP. */
static __always_inline void piece_ip(struct iphdr *ip, const struct dp_shadow *sh,
				     const struct piece *p, __u32 len)
{
	__u32 at = p->at ? p->at + UDP_LEN : 0;

	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = bpf_htons(sizeof(*ip) + len);
	ip->id = bpf_htons(p->id);
	ip->frag_off = bpf_htons(at >> 3 | (piece_has_more(p) ? IP_MF : 0));
	ip->ttl = sh->tcp.ttl;
	ip->protocol = IPPROTO_UDP;
	ip->saddr = addr_v4(&sh->ep.shadow_addr);
	ip->daddr = addr_v4(&sh->ep.address);
	ip->check = ip_checksum(ip);
}

static __always_inline void piece_ipv6(struct ipv6hdr *ip, const struct dp_shadow *sh,
				       const struct piece *p, __u32 len)
{
	ip->version = 6;
	ip->payload_len = bpf_htons(len);
	ip->nexthdr = piece_is_fragment(p) ? IPPROTO_FRAGMENT : IPPROTO_UDP;
	ip->hop_limit = sh->tcp.ttl;
	__builtin_memcpy(&ip->saddr, &sh->ep.shadow_addr, 16);
	__builtin_memcpy(&ip->daddr, &sh->ep.address, 16);
}

static __always_inline void piece_fragment(struct ipv6_fragment *f, const struct piece *p)
{
	__u32 at = p->at ? p->at + UDP_LEN : 0;

	f->next = IPPROTO_UDP;
	f->offset = bpf_htons(at | piece_has_more(p));
	f->id = bpf_htonl(p->id);
}

static __always_inline void piece_udp(struct udp_header *udp, const struct dp_shadow *sh,
				      const struct piece *p)
{
	udp->source = sh->ep.shadow_port;
	udp->dest = sh->ep.target_port;
	udp->len = bpf_htons(UDP_LEN + p->whole);
	udp->check = p->check;
}

static __always_inline long piece_store(struct __sk_buff *skb, const struct udp_headers *n,
					const struct piece *p, bool v6, __u32 *offset)
{
	__u32 at = IP_OFF;

	if (v6) {
		if (bpf_skb_store_bytes(skb, at, n->ip, sizeof(struct ipv6hdr),
					BPF_F_RECOMPUTE_CSUM))
			return -1;
		at += sizeof(struct ipv6hdr);
	} else {
		if (bpf_skb_store_bytes(skb, at, n->ip + IPV6_MORE, sizeof(struct iphdr),
					BPF_F_RECOMPUTE_CSUM))
			return -1;
		at += sizeof(struct iphdr);
	}
	if (v6 && piece_is_fragment(p)) {
		if (bpf_skb_store_bytes(skb, at, &n->fragment, sizeof(n->fragment),
					BPF_F_RECOMPUTE_CSUM))
			return -1;
		at += sizeof(n->fragment);
	}
	if (!p->at) {
		if (bpf_skb_store_bytes(skb, at, &n->udp, sizeof(n->udp), BPF_F_RECOMPUTE_CSUM))
			return -1;
		at += sizeof(n->udp);
	}
	*offset = at;
	return 0;
}

enum piece_outcome {
	PIECE_FAILED = -1,
	PIECE_BUILT = 0,
	PIECE_UNSUMMED, /* its checksum is to be made first: udp_sum_first() */
};

/*
 * A device that is still to make the checksum (CHECKSUM_PARTIAL) would write it into a fragment. No
 * helper takes that mark from a packet, but a device does that makes no checksums: doppel1 is told
 * to be one, so the clone goes out of it as it is, and comes back by doppel0 without the mark.
 */
static __always_inline int udp_sum_first(struct __sk_buff *skb)
{
	if (!cfg.clock)
		return TC_ACT_SHOT;
	forget_marks(skb);
	skb->cb[CB_KIND] = cfg.cookie + TXREQ_SUMMED;
	return bpf_redirect(cfg.clock, 0);
}

/*
 * Nothing but the payload of the piece, which is in the scratch space, stays behind the packet's
 * headers: a tail that was changed lies within 16 KiB (BPF_SKB_MAX_LEN), and where the payload was
 * may be further. What was cut is not GSO any more, of which doppel1 would make several packets.
 * 0, or an error.
 */
static __always_inline long piece_alone(struct __sk_buff *skb, const struct scratch_space *s,
					__u32 at, __u32 len)
{
	if (!len || bpf_skb_change_tail(skb, at + len, 0))
		return -1;
	skb->cb[CB_PIECE_PART] = at | len << 20;
	asm volatile("%[n] += -1\n\t%[n] &= 2047\n\t%[n] += 1" : [n] "+r"(len));
	return bpf_skb_store_bytes(skb, at, s->data, len, 0);
}

/* The clone becomes the datagram, or the fragment: enum piece_outcome. */
GLOBAL int udp_build(struct __sk_buff *skb, __u32 slot, const struct piece *p)
{
	__u32 zero = 0, len, behind, offset, was;
	struct dp_shadow *sh = shadow_at(slot);
	struct udp_headers n = {};
	struct scratch_space *s;
	bool partial, v6;

	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s || !sh || !p || p->len > PIECE_MAX)
		return PIECE_FAILED;
	len = p->len;
	if (len) {
		asm volatile("%[n] += -1\n\t%[n] &= 2047\n\t%[n] += 1" : [n] "+r"(len));
		if (bpf_skb_load_bytes(skb, p->from, s->data, len))
			return PIECE_FAILED;
	}
	was = skb->protocol == bpf_htons(ETH_P_IPV6) ? TCP6_OFF : TCP_OFF;
	partial = summed_by(skb) == SUMMED_PARTIAL;
	if (partial && piece_is_fragment(p))
		return piece_alone(skb, s, was + UDP_LEN, p->len) ? PIECE_FAILED : PIECE_UNSUMMED;
	v6 = shadow_is_v6(sh);
	behind = (p->at ? 0 : UDP_LEN) + (v6 && piece_is_fragment(p) ? 8 : 0) + p->len;
	if (skb->protocol != bpf_htons(v6 ? ETH_P_IPV6 : ETH_P_IP) && template_turn(skb, v6))
		return PIECE_FAILED;
	if (bpf_skb_change_tail(skb, (v6 ? TCP6_OFF : TCP_OFF) + behind, 0))
		return PIECE_FAILED;
	if (v6)
		piece_ipv6((struct ipv6hdr *)n.ip, sh, p, behind);
	else
		piece_ip((struct iphdr *)(n.ip + IPV6_MORE), sh, p, behind);
	piece_fragment(&n.fragment, p);
	piece_udp(&n.udp, sh, p);
	if (partial)
		n.udp.check = csum_fold(pseudo_sum_of(IPPROTO_UDP, &sh->ep.shadow_addr,
						      &sh->ep.address, UDP_LEN + p->whole));
	if (piece_store(skb, &n, p, v6, &offset))
		return PIECE_FAILED;
	len = p->len;
	if (!len)
		return PIECE_BUILT;
	asm volatile("%[n] += -1\n\t%[n] &= 2047\n\t%[n] += 1" : [n] "+r"(len));
	return bpf_skb_store_bytes(skb, offset, s->data, len, BPF_F_RECOMPUTE_CSUM) ? PIECE_FAILED
										    : PIECE_BUILT;
}

#endif
