/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The way out of this host: device, route and neighbour of what goes to a target. One on this host
 * itself is reached as its own connections reach it: by lo, with the route that the kernel looks up
 * for what is sent. That route is on the packet when it comes in there, so nobody asks whether an
 * address of this host's own may come from a device (fib_validate_source), and 127.0.0.1 is one
 * like any other.
 */
#ifndef DOPPEL_SEND_BPF_H
#define DOPPEL_SEND_BPF_H

#include <bpf/bpf_core_read.h>

#include "maps.bpf.h"
#include "packet/addr.bpf.h"
#include "packet/headers.bpf.h"
#include "packet/txreq.bpf.h"

#define SKB_DST_NOREF 1 /* include/linux/skbuff.h */

/* Marks and priorities are the original's, and would choose its routes and queues. */
static __always_inline void forget_marks(struct __sk_buff *skb)
{
	skb->mark = 0;
	skb->priority = 0;
}

/* Has the packet a route of another way, of which it holds a reference? */
static __always_inline bool holds_a_route(const struct sk_buff *packet)
{
	unsigned long dst = 0;

	bpf_probe_read_kernel(&dst, sizeof(dst), &packet->_skb_refdst);
	return dst && !(dst & SKB_DST_NOREF);
}

/* Is it part of a connection that conntrack knows? */
static __always_inline bool holds_a_connection(const struct sk_buff *packet)
{
	unsigned long nfct = 0;

	if (bpf_core_field_exists(packet->_nfct))
		bpf_probe_read_kernel(&nfct, sizeof(nfct), &packet->_nfct);
	return nfct;
}

/*
 * What this host's stack has written to a packet that it sent is left behind where it comes in
 * anew (skb_scrub_packet). A route would be lost by bpf_redirect_neigh() with its reference, which
 * keeps its device for good (before kernel 6.18, and its stable ones); a connection is the
 * client's, and this is another.
 */
GLOBAL int must_come_in_anew(struct __sk_buff *skb, __u32 oif)
{
	const struct sk_buff *packet = (const struct sk_buff *)skb;

	return holds_a_route(packet) || (oif == DP_LOOPBACK && holds_a_connection(packet));
}

/*
 * Behind lo the packet is received as it is: for this host, and with a sum of all its bytes that
 * its device has made, if any, without the Ethernet header, which nobody takes out of that there.
 */
static __always_inline void receive_here(struct __sk_buff *skb)
{
	__u8 ethernet[16] = {};

	bpf_skb_change_type(skb, PACKET_HOST);
	if (!bpf_skb_load_bytes(skb, 0, ethernet, IP_OFF))
		bpf_csum_update(skb, ~bpf_csum_diff(0, 0, (__be32 *)ethernet, 16, 0));
}

static __always_inline long send_by_route(struct __sk_buff *skb, const struct dp_shadow *sh,
					  __u32 slot, __u32 oif)
{
	struct txreq leave = {.kind = TXREQ_LEAVE, .slot = slot, .gen = sh->gen};

	if (must_come_in_anew(skb, oif)) {
		txreq_write(skb, &leave);
		return bpf_redirect(cfg.link, BPF_F_INGRESS);
	}
	if (oif == DP_LOOPBACK)
		receive_here(skb);
	return bpf_redirect_neigh(oif, NULL, 0, 0);
}

/*
 * Uses the mapping's current route; after the mapping was removed, or its target changed, the one
 * stored in the shadow. Where the target is on link, the kernel need not look for a route for every
 * packet.
 */
static __always_inline long send_to_target(struct __sk_buff *skb, const struct dp_shadow *sh,
					   __u32 slot)
{
	struct dp_mapping *m = mapping_at(sh->ep.key.mapping);
	struct bpf_redir_neigh hop = {.nh_family = AF_INET};
	__u32 t = sh->ep.key.target;
	struct dp_target *target;

	if (!m || t >= m->n_targets)
		return send_by_route(skb, sh, slot, sh->ep.oif);
	target = target_at(m, t);
	if (!addr_eq(&target->address, &sh->ep.address))
		return send_by_route(skb, sh, slot, sh->ep.oif);
	if (!addr_is_set(&target->nexthop))
		return send_by_route(skb, sh, slot, target->oif);
	if (addr_is_v4(&target->nexthop)) {
		hop.ipv4_nh = addr_v4(&target->nexthop);
	} else {
		hop.nh_family = AF_INET6;
		__builtin_memcpy(hop.ipv6_nh, &target->nexthop, sizeof(hop.ipv6_nh));
	}
	return bpf_redirect_neigh(target->oif, &hop, sizeof(hop), 0);
}

#endif
