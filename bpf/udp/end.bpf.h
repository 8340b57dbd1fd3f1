/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The end of a flow of UDP: nothing waits, and nobody is told. */
#ifndef DOPPEL_UDP_END_BPF_H
#define DOPPEL_UDP_END_BPF_H

#include "flow/flow.bpf.h"
#include "ledger.bpf.h"
#include "tcp/shadow.bpf.h"

static __always_inline struct udp_state *udp_state(__u32 pool)
{
	return bpf_map_lookup_elem(&udp, &pool);
}

/* Flows of UDP that have a slot of that one's pool, more or fewer. */
static __always_inline void udp_count(__u32 slot, __s64 more)
{
	struct udp_state *u = udp_state(pool_of_slot(slot));

	if (u)
		__sync_fetch_and_add(&u->flows, more);
}

/*
 * 1: this call ended it. Not by shadow_finish(): nothing of it is in the store, and the callers
 * have no frames left for that on the stack of calls.
 */
GLOBAL int udp_end(__u32 slot, __u32 gen)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_flow_key key;
	struct dp_flow *flow;
	struct dp_ledger *l;
	bool mine;

	if (!sh)
		return 0;
	bpf_spin_lock(&sh->lock);
	mine = sh->gen == gen && sh->tcp.state == DP_DATAGRAMS;
	if (mine)
		sh->tcp.state = DP_TIME_WAIT;
	bpf_spin_unlock(&sh->lock);
	if (!mine)
		return 0;
	sh->tcp.seen_ns = bpf_ktime_get_coarse_ns();
	key = sh->ep.key;
	l = ledger_cell(key.mapping, key.target);
	if (l) {
		l->open--;
		l->closed++;
		l->slots--;
	}
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow && flow_claim(flow, slot, gen, DP_SLOT_GONE))
		flow_delete(&key);
	client_count(&key.client, 0, -1, 0);
	udp_count(slot, -1);
	slot_give_back(slot);
	return 1;
}

#endif
