/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flows that have been silent for long, or that the source has ended. */
#ifndef DOPPEL_EXPIRE_BPF_H
#define DOPPEL_EXPIRE_BPF_H

#include "flow/flow.bpf.h"
#include "flow/over.bpf.h"
#include "ledger.bpf.h"
#include "tcp/shadow.bpf.h"

/* A source that is behind what capture has seen is so for less, or the client says it again. What
 * is noted takes the place of a SYN in `syns`.
 */
#define BEHIND_NS (3ull * NSEC_PER_SEC)

/* A reload forgets the flow while its connection goes on: what it has counted ends there. */
static __always_inline void expire_note_end(const struct dp_flow_key *key, struct dp_flow *flow,
					    const struct dp_shadow *sh)
{
	bool known;
	__u32 end;

	bpf_spin_lock(&flow->lock);
	end = flow->next;
	known = flow->seen;
	bpf_spin_unlock(&flow->lock);
	if (!sh && known)
		over_note(key, end, end);
	else if (sh && !(sh->tcp.flags & DP_SH_UDP))
		over_note(key, sh->tcp.isn, known ? seq_max(end, sh->tcp.end) : sh->tcp.end);
}

/*
 * A flow that has been silent for so many seconds is forgotten; its key is in the template, behind
 * the Ethernet header. `op`: DP_CMD_EXPIRE or DP_CMD_SOURCE_GONE. Returns the slot of the shadow
 * that is to close now, or DP_NO_SLOT.
 */
static __noinline __u32 flow_expire(struct __sk_buff *skb, __u32 seconds, __u32 op)
{
	struct dp_flow_key key = {};
	struct dp_shadow *sh = NULL;
	struct dp_ledger *l;
	struct dp_flow *flow;
	__u64 seen, silent;
	__u32 slot, gen;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &key, sizeof(key)))
		return DP_NO_SLOT;
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return DP_NO_SLOT;
	slot = flow->slot;
	gen = flow->gen;
	seen = flow->seen_ns;
	if (slot == DP_SLOT_GONE) { /* its deletion failed */
		flow_delete(&key);
		return DP_NO_SLOT;
	}
	if (slot != DP_NO_SLOT) {
		sh = shadow_at(slot);
		if (!sh)
			return DP_NO_SLOT;
		seen = sh->tcp.seen_ns;
		if (sh->gen != gen) { /* not its shadow any more: left over */
			if (flow_claim(flow, slot, gen, DP_SLOT_GONE))
				flow_delete(&key);
			return DP_NO_SLOT;
		}
	}
	silent = bpf_ktime_get_coarse_ns() - seen;
	if (silent < seconds * NSEC_PER_SEC)
		return DP_NO_SLOT;
	if (op == DP_CMD_EXPIRE && !seconds && silent < BEHIND_NS)
		expire_note_end(&key, flow,
				sh); /* before the flow goes: nothing may come between */
	if (!flow_claim(flow, slot, gen, DP_SLOT_GONE))
		return DP_NO_SLOT;
	flow_delete(&key);
	l = ledger_cell(key.mapping, key.target);
	if (l && slot == DP_NO_SLOT)
		l->waiting--;
	ledger_event(l, op == DP_CMD_EXPIRE ? DP_EVENT_idle : DP_EVENT_source_gone);
	return slot;
}

#endif
