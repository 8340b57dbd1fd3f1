/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A copy: a clone of a captured segment whose headers are rewritten in place. The payload is
 * not touched and stays shared with the original; a GRO packet stays one.
 */
#ifndef DOPPEL_REWRITE_BPF_H
#define DOPPEL_REWRITE_BPF_H

#include "packet/csum.bpf.h"
#include "packet/parse.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/shadow.bpf.h"

struct copy_headers {
	struct ipv4_tcp h;
	__be32 ts[3];
};

/* What follows "NOP NOP TS len"; without timestamps toward the target, NOPs. */
static __always_inline void rewrite_timestamp(__be32 *ts, const struct dp_shadow *sh,
					      const struct copy *c)
{
	if (sh->tcp.flags & DP_SH_TS) {
		ts[1] = bpf_htonl(c->tsval);
		ts[2] = bpf_htonl(c->tsecr);
	} else {
		ts[0] = bpf_htonl(0x01010101);
		ts[1] = bpf_htonl(0x01010101);
		ts[2] = bpf_htonl(0x01010101);
	}
}

static __always_inline void rewrite_tcp(struct tcp_header *tcp, const struct dp_shadow *sh,
					const struct copy *c)
{
	tcp->source = sh->ep.shadow_port;
	tcp->dest = sh->ep.target_port;
	tcp->ack = bpf_htonl(c->ack);
	tcp->window = bpf_htons(RCV_WINDOW);
}

/*
 * Capture has checked: the target's IP version, without options, TCP options none or a plain
 * timestamp, flags ACK and PSH only; so the offsets are constants here. All changes go through the
 * checksum helpers: they know whether the sum in the packet is complete or still to be made by the
 * device (CHECKSUM_PARTIAL).
 */
static __always_inline int rewrite_v4(struct __sk_buff *skb, const struct dp_shadow *sh,
				      const struct copy *c)
{
	struct copy_headers old = {}, new;
	__wsum addr, tcp;
	bool ts;

	if (load_words(skb, IP_OFF, (__u32 *)&old.h, sizeof(old.h) / 4))
		return -1;
	ts = old.h.tcp.doff >> 4 == 8;
	if (ts && load_words(skb, OPT_OFF, old.ts, 3))
		return -1;
	new = old;
	new.h.ip.saddr = addr_v4(&sh->ep.shadow_addr);
	new.h.ip.daddr = addr_v4(&sh->ep.address);
	/* The client's class and ECN (RFC 2474, 3168) are of its path; copies have no claim there.
	 */
	new.h.ip.tos = 0;
	new.h.ip.ttl = sh->tcp.ttl;
	new.h.ip.check = ip_checksum(&new.h.ip);
	rewrite_tcp(&new.h.tcp, sh, c);
	if (ts)
		rewrite_timestamp(new.ts, sh, c);
	addr = words_diff(&old.h.ip.saddr, &new.h.ip.saddr, 2);
	if (ts) {
		tcp = words_diff(&old.h.tcp, &new.h.tcp, 8);
		if (bpf_skb_store_bytes(skb, IP_OFF, &new, sizeof(new), 0))
			return -1;
	} else {
		tcp = words_diff(&old.h.tcp, &new.h.tcp, 5);
		if (bpf_skb_store_bytes(skb, IP_OFF, &new.h, sizeof(new.h), 0))
			return -1;
	}
	if (bpf_l4_csum_replace(skb, CHECK_OFF, 0, addr, BPF_F_PSEUDO_HDR) ||
	    bpf_l4_csum_replace(skb, CHECK_OFF, 0, tcp, 0))
		return -1;
	return 0;
}

struct copy_headers_v6 {
	struct ipv6_tcp h;
	__be32 ts[3];
};

/*
 * The same for IPv6, with a flow label of 0: the client's is of its path (RFC 6437). A
 * CHECKSUM_COMPLETE sum is corrected by hand: bpf_l4_csum_replace() takes the header of IP for one
 * with a checksum of its own, whose sum does not change (before kernel 6.16 it can do no other).
 */
GLOBAL int rewrite_v6(struct __sk_buff *skb, __u32 slot, const struct copy *c)
{
	struct copy_headers_v6 old = {}, new;
	struct dp_shadow *sh = shadow_at(slot);
	__wsum addr, ip, tcp;
	bool ts;

	if (!sh || !c || load_words(skb, IP_OFF, (__u32 *)&old.h, sizeof(old.h) / 4))
		return -1;
	ts = old.h.tcp.doff >> 4 == 8;
	if (ts && load_words(skb, OPT6_OFF, old.ts, 3))
		return -1;
	new = old;
	*(__be32 *)&new.h.ip = bpf_htonl(6u << 28);
	new.h.ip.hop_limit = sh->tcp.ttl;
	__builtin_memcpy(&new.h.ip.saddr, &sh->ep.shadow_addr, 16);
	__builtin_memcpy(&new.h.ip.daddr, &sh->ep.address, 16);
	rewrite_tcp(&new.h.tcp, sh, c);
	if (ts)
		rewrite_timestamp(new.ts, sh, c);
	addr = words_diff(&old.h.ip.saddr, &new.h.ip.saddr, 8);
	ip = words_diff(&old.h.ip, &new.h.ip, sizeof(old.h.ip) / 4);
	tcp = ts ? words_diff(&old.h.tcp, &new.h.tcp, 8) : words_diff(&old.h.tcp, &new.h.tcp, 5);
	if (bpf_skb_store_bytes(skb, IP_OFF, &new, ts ? sizeof(new) : sizeof(new.h), 0))
		return -1;
	bpf_csum_update(skb, ip);
	if (bpf_l4_csum_replace(skb, CHECK6_OFF, 0, addr, BPF_F_PSEUDO_HDR) ||
	    bpf_l4_csum_replace(skb, CHECK6_OFF, 0, tcp, 0))
		return -1;
	return 0;
}

static __always_inline int rewrite_copy(struct __sk_buff *skb, const struct dp_shadow *sh,
					__u32 slot, const struct copy *c)
{
	return shadow_is_v6(sh) ? rewrite_v6(skb, slot, c) : rewrite_v4(skb, sh, c);
}

#endif
