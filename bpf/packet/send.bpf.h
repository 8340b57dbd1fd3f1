/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way out of this host: device, route and neighbour of what goes to a target. */
#ifndef DOPPEL_SEND_BPF_H
#define DOPPEL_SEND_BPF_H

#include "maps.bpf.h"
#include "packet/addr.bpf.h"

/* Marks and priorities are the original's, and would choose its routes and queues. */
static __always_inline void forget_marks(struct __sk_buff *skb)
{
	skb->mark = 0;
	skb->priority = 0;
}

/*
 * Uses the mapping's current route; after the mapping was removed, or its target changed, the one
 * stored in the shadow. Where the target is on link, the kernel need not look for a route for every
 * packet.
 */
static __always_inline long send_to_target(const struct dp_shadow *sh)
{
	struct dp_mapping *m = mapping_at(sh->ep.key.mapping);
	struct bpf_redir_neigh hop = {.nh_family = AF_INET};
	__u32 t = sh->ep.key.target;
	struct dp_target *target;

	if (!m || t >= m->n_targets)
		return bpf_redirect_neigh(sh->ep.oif, NULL, 0, 0);
	target = target_at(m, t);
	if (!addr_eq(&target->address, &sh->ep.address))
		return bpf_redirect_neigh(sh->ep.oif, NULL, 0, 0);
	if (!addr_is_set(&target->nexthop))
		return bpf_redirect_neigh(target->oif, NULL, 0, 0);
	if (addr_is_v4(&target->nexthop)) {
		hop.ipv4_nh = addr_v4(&target->nexthop);
	} else {
		hop.nh_family = AF_INET6;
		__builtin_memcpy(hop.ipv6_nh, &target->nexthop, sizeof(hop.ipv6_nh));
	}
	return bpf_redirect_neigh(target->oif, &hop, sizeof(hop), 0);
}

#endif
