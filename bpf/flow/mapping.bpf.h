/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which mapping wants a captured packet, by its port and address. */
#ifndef DOPPEL_MAPPING_BPF_H
#define DOPPEL_MAPPING_BPF_H

#include "maps.bpf.h"
#include "netns.bpf.h"
#include "packet/addr.bpf.h"
#include "packet/parse.bpf.h"
#include "share.bpf.h"

/* port: as peek_port() tells it. */
static __always_inline bool port_wanted(__u32 port)
{
	__u32 word = port >> 5, *bits = bpf_map_lookup_elem(&ports, &word);

	return bits && (*bits & dp_port_bit(port));
}

/* Where the packet's port leads to, and its address before all others; NULL: nowhere. */
static __always_inline const struct dp_port_val *way_of(const struct __sk_buff *skb,
							const struct pkt *p, __u32 direction)
{
	struct dp_address_key key = {.port = {.ifindex = skb->ifindex,
					      .port = bpf_ntohs(p->dport),
					      .proto = pkt_proto(p),
					      .direction = direction}};
	const struct dp_port_val *of_port, *of_address;

	of_port = bpf_map_lookup_elem(&port_map, &key.port);
	if (!of_port || !of_port->by_address)
		return of_port;
	key.address = p->daddr;
	of_address = bpf_map_lookup_elem(&address_map, &key);
	return of_address ?: of_port;
}

/* The mapping that wants the packet, which it notes in *p; NULL: none does. */
static __noinline struct dp_mapping *mapping_of(struct __sk_buff *skb, struct pkt *p,
						__u32 direction)
{
	__u32 port = bpf_ntohs(p->dport);
	const struct dp_port_val *val;
	struct dp_mapping *m;

	if (!port_wanted(p->udp ? PEEK_UDP | port : port))
		return NULL;
	val = way_of(skb, p, direction);
	if (!val)
		return NULL;
	p->mapping = val->mapping;
	p->port_offset = val->offset;
	m = mapping_at(p->mapping);
	if (!m || !netns_is_ours(skb))
		return NULL;
	/* TCP takes nothing that came for another host, or for many (tcp_v4_rcv). Nor is a datagram
	 * for many a client's alone.
	 */
	if (direction == DP_DIR_INGRESS && skb->pkt_type != PACKET_HOST &&
	    !(m->flags & DP_MAP_ANY_HOST))
		return NULL;
	/* What goes to a target itself is a client's own business, or a copy of ours on its way. */
	for (__u32 t = 0; t < DP_MAX_TARGETS; t++) {
		if (t < m->n_targets && addr_eq(&p->daddr, &m->target[t].address) &&
		    port - m->target[t].port <= m->ports)
			return NULL;
	}
	p->shared = m->n_targets > 1 || (m->flags & DP_MAP_COPIES);
	if (p->shared)
		lead_none();
	return m;
}

#endif
