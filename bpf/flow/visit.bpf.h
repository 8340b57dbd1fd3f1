/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections that come back in a ring of hosts that mirror to each other. Each shadow has the
 * client's ISN and the client's timestamp in its SYN, on every host of the ring, and a TTL that is
 * one less on each: so whoever sees the two again, from another end and with a lower TTL, has
 * mirrored that connection already. Nothing of that is on the wire, and a path of more routers does
 * not look so: 64 bits do not meet by chance. Without timestamps a ring ends by the TTL alone.
 */
#ifndef DOPPEL_VISIT_BPF_H
#define DOPPEL_VISIT_BPF_H

#include "maps.bpf.h"
#include "packet/addr.bpf.h"

/* A SYN is sent again for so long at most (tcp_syn_retries), in END_UNIT. */
#define VISIT_AGE 130

/*
 * A connection of that client, whose SYN has these. True: it has come back. Else it is remembered.
 */
GLOBAL int visit_note(const struct dp_flow_key *flow, __u32 isn, __u32 tsval, __u32 ttl)
{
	__u32 now = bpf_ktime_get_coarse_ns() >> END_UNIT;
	struct visit_key key = {.isn = isn, .tsval = tsval};
	struct visit fresh = {};
	struct visit *v;

	if (!flow)
		return false;
	v = bpf_map_lookup_elem(&visits, &key);
	if (v && now - v->at <= VISIT_AGE) {
		return ttl < v->ttl &&
		       !(v->port == flow->client_port && addr_eq(&v->client, &flow->client));
	}
	fresh.client = flow->client;
	fresh.port = flow->client_port;
	fresh.ttl = ttl;
	fresh.at = now;
	bpf_map_update_elem(&visits, &key, &fresh, BPF_ANY);
	return false;
}

#endif
