/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A copy of a datagram, or of a fragment of one: a clone whose headers are rewritten in place. All
 * changes go through the checksum helpers, which know whether the sum in the packet is complete or
 * still to be made by the device (CHECKSUM_PARTIAL); 0, which is none, stays 0.
 */
#ifndef DOPPEL_UDP_REWRITE_BPF_H
#define DOPPEL_UDP_REWRITE_BPF_H

#include "packet/csum.bpf.h"
#include "packet/parse.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/shadow.bpf.h"

#define UDP_CHECK 6 /* where the checksum is in its header, bytes */

/*
 * What fits into 576 bytes is never fragmented on the way (RFC 791, 3.2). For the rest a router may
 * have to, where the path takes less than is known: then it needs an identification (RFC 6864).
 */
#define WHOLE_MAX 576

struct udp_v4 {
	struct iphdr ip;
	struct udp_header udp;
};

/*
 * Hosts that mirror to each other cannot know a datagram again, as they know a connection
 * (flow/visit), and each of several targets is a way for it: so half of the time to live is used up
 * on each host, and what goes round ends after six.
 */
static __always_inline __u8 udp_ttl(__u8 of_client)
{
	return of_client / 2 ?: 1;
}

/* The two ends of the copy, in the header of UDP at `offset`. */
static __always_inline long udp_rewrite_ports(struct __sk_buff *skb, const struct dp_shadow *sh,
					      __u32 offset, __wsum addr)
{
	__be16 ports[2], ours[2] = {sh->ep.shadow_port, sh->ep.target_port};
	__u32 check = offset + UDP_CHECK;

	if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)) ||
	    bpf_skb_store_bytes(skb, offset, ours, sizeof(ours), 0))
		return -1;
	if (bpf_l4_csum_replace(skb, check, 0, addr, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0) ||
	    bpf_l4_csum_replace(skb, check, 0, words_diff(ports, ours, 1), BPF_F_MARK_MANGLED_0))
		return -1;
	return 0;
}

static __always_inline long udp_rewrite_v4(struct __sk_buff *skb, const struct dp_shadow *sh,
					   const struct datagram *d)
{
	struct iphdr old, new;
	__wsum addr;

	if (load_words(skb, IP_OFF, (__u32 *)&old, sizeof(old) / 4))
		return -1;
	new = old;
	new.saddr = addr_v4(&sh->ep.shadow_addr);
	new.daddr = addr_v4(&sh->ep.address);
	new.tos = 0; /* as in rewrite_v4() */
	new.ttl = udp_ttl(old.ttl);
	if (d->shape != PKT_UDP) {
		new.id = bpf_htons(d->id);
		new.frag_off &= ~bpf_htons(IP_DF);
	} else if (bpf_ntohs(old.tot_len) > WHOLE_MAX) {
		new.id = bpf_get_prandom_u32();
		new.frag_off &= ~bpf_htons(IP_DF);
	}
	new.check = ip_checksum(&new);
	addr = words_diff(&old.saddr, &new.saddr, 2);
	if (bpf_skb_store_bytes(skb, IP_OFF, &new, sizeof(new), 0))
		return -1;
	return d->shape == PKT_UDP_LATER ? 0 : udp_rewrite_ports(skb, sh, TCP_OFF, addr);
}

/* See rewrite_v6() for the sum of CHECKSUM_COMPLETE. */
static __always_inline long udp_rewrite_v6(struct __sk_buff *skb, const struct dp_shadow *sh,
					   const struct datagram *d)
{
	struct ipv6hdr old, new;
	__wsum addr, ip;
	__be32 was, id;

	if (load_words(skb, IP_OFF, (__u32 *)&old, sizeof(old) / 4))
		return -1;
	new = old;
	*(__be32 *)&new = bpf_htonl(6u << 28);
	new.hop_limit = udp_ttl(old.hop_limit);
	__builtin_memcpy(&new.saddr, &sh->ep.shadow_addr, 16);
	__builtin_memcpy(&new.daddr, &sh->ep.address, 16);
	addr = words_diff(&old.saddr, &new.saddr, 8);
	ip = words_diff(&old, &new, sizeof(old) / 4);
	if (bpf_skb_store_bytes(skb, IP_OFF, &new, sizeof(new), 0))
		return -1;
	if (d->shape != PKT_UDP) {
		id = bpf_htonl(d->id);
		if (bpf_skb_load_bytes(skb, TCP6_OFF + 4, &was, 4) ||
		    bpf_skb_store_bytes(skb, TCP6_OFF + 4, &id, 4, 0))
			return -1;
		bpf_csum_update(skb, words_diff(&was, &id, 1));
	}
	bpf_csum_update(skb, ip);
	if (d->shape == PKT_UDP_LATER)
		return 0;
	if (d->shape == PKT_UDP_FIRST)
		return udp_rewrite_ports(skb, sh, TCP6_OFF + sizeof(struct ipv6_fragment), addr);
	return udp_rewrite_ports(skb, sh, TCP6_OFF, addr);
}

/* 0, or -1. */
GLOBAL int udp_rewrite(struct __sk_buff *skb, __u32 slot, const struct datagram *d)
{
	struct dp_shadow *sh = shadow_at(slot);

	if (!sh || !d)
		return -1;
	return shadow_is_v6(sh) ? udp_rewrite_v6(skb, sh, d) : udp_rewrite_v4(skb, sh, d);
}

#endif
