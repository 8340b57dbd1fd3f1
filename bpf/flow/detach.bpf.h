/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flows that lose their shadow while both go on: superseded, over the ceiling, or broken. */
#ifndef DOPPEL_DETACH_BPF_H
#define DOPPEL_DETACH_BPF_H

#include "flow/flow.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/finish.bpf.h"
#include "tcp/timer.bpf.h"

/* The shadow ends, and the target is told. */
GLOBAL int flow_break_shadow(struct __sk_buff *skb, __u32 slot, __u32 gen, __u32 why)
{
	struct txreq rst = {.kind = TXREQ_SEGMENT, .slot = slot, .gen = gen};
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_ledger *l;

	if (!sh)
		return 0;
	/* Read before the break: after it the slot may be another flow's. */
	l = ledger_cell(sh->ep.key.mapping, sh->ep.key.target);
	rst.segment.seq = sh->tcp.nxt;
	rst.segment.flags = TCP_RST | TCP_ACK;
	if (shadow_break(slot, gen, why) && txreq_clone(skb, &rst, 0))
		ledger_event(l, DP_EVENT_clone_failed);
	return 0;
}

/*
 * The shadow's flow leaves it: what it has taken is still delivered, then it closes by itself. 1:
 * done; the caller rebinds the flow, from sh->tcp.end on, and then calls flow_send_rest().
 */
GLOBAL int flow_detach_shadow(struct __sk_buff *skb, __u32 slot, __u32 gen)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct dp_shadow *sh = shadow_at(slot);
	bool watch;

	if (!sh)
		return 0;
	bpf_spin_lock(&sh->lock);
	if (sh->gen != gen || !shadow_is_open(sh)) {
		bpf_spin_unlock(&sh->lock);
		return 0;
	}
	sh->tcp.ahead = sh->tcp.end;
	if (!shadow_fin_placed(sh)) {
		sh->tcp.flags |= DP_SH_CLIENT_FIN;
		sh->tcp.fin = sh->tcp.end;
	}
	if (!sh->tcp.due_ns)
		shadow_restart_rto_locked(sh, now);
	watch = timer_wanted_locked(sh);
	bpf_spin_unlock(&sh->lock);
	if (watch)
		timer_watch(slot);
	return 1;
}

/* What flow_detach_shadow() left to send, once the flow is not bound to the slot any more. */
static __always_inline void flow_send_rest(struct __sk_buff *skb, __u32 slot, __u32 gen,
					   struct dp_ledger *l)
{
	struct txreq work = {.kind = TXREQ_WORK, .slot = slot, .gen = gen};

	if (txreq_clone(skb, &work, 0))
		ledger_event(l, DP_EVENT_clone_failed);
}

#define SHED_PAUSE_MS 1000 /* so long at least a flow stays away that was over the ceiling */

/*
 * The flow of the packet leaves its shadow, and waits: it may join again at a request boundary, not
 * before `pause_ms` have passed. Its stream goes on at the shadow's end; what the source has beyond
 * that, `missing` bytes, went by without us, or in packets that could not be read. 1: done, or it
 * waits already.
 */
GLOBAL int flow_leave(struct __sk_buff *skb, const struct pkt *p, __u32 excluded, __u32 pause_ms,
		      __u32 missing)
{
	struct dp_flow_key key = {};
	struct dp_shadow *sh;
	__u32 slot, gen, ack, hole, unread;
	struct dp_ledger *l;
	struct dp_flow *flow;
	bool push;

	if (!p)
		return 0;
	flow_key(&key, p);
	l = ledger_cell(key.mapping, key.target);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow || !l)
		return 0;
	if (flow->slot == DP_NO_SLOT)
		return 1;
	slot = flow->slot;
	gen = flow->gen;
	sh = shadow_at(slot);
	if (!sh)
		return 0;
	ack = sh->tcp.ack_last;
	push = sh->tcp.flags & DP_SH_PUSH;
	hole = shadow_hole_name(sh, missing);
	unread = sh->tcp.hole_len < missing ? sh->tcp.hole_len : missing;
	/* One that the target closed may have ended, and its flow be bound to it still. */
	if (!flow_detach_shadow(skb, slot, gen) &&
	    (sh->gen != gen || !(sh->tcp.flags & DP_SH_RESUME)))
		return 0;
	/* The shadow may have ended on another CPU since, and its flow with it. */
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow && flow->slot == slot && flow->gen == gen) {
		flow->excluded = excluded;
		flow->next = sh->tcp.end + missing;
		flow->ack = ack;
		flow->seen = 1;
		flow->ack_valid = 1;
		flow->push = push;
		flow->answered_turns = 0;
		flow->hole = missing ? 0 : shadow_hole_name(sh, 1u << 31);
		flow->retry = 0;
		flow->seen_ns = bpf_ktime_get_coarse_ns();
		flow_note_end(flow, sh, !!(sh->tcp.flags & DP_SH_RESUME));
		if (!missing && shadow_resumes(sh))
			flow->marks |= DP_FLOW_RESUME;
		if (pause_ms)
			flow_pause(flow, flow->seen_ns, bpf_get_prandom_u32(), pause_ms, 1);
		if (flow_claim(flow, slot, gen, DP_NO_SLOT)) {
			l->waiting++;
			if (!hole)
				unread = 0;
			ledger_exclude(l, hole, unread);
			ledger_miss(l, DP_LOST_client_gap, missing - unread);
		}
	}
	flow_send_rest(skb, slot, gen, l);
	return 1;
}

/* The source has no such connection any more: neither has the target, once it has what was taken.
 */
GLOBAL int flow_source_gone(struct __sk_buff *skb, const struct pkt *p)
{
	struct dp_flow_key key = {};
	struct dp_ledger *l;
	struct dp_flow *flow;
	__u32 slot, gen;

	if (!p)
		return 0;
	flow_key(&key, p);
	l = ledger_cell(key.mapping, key.target);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow || !l)
		return 0;
	slot = flow->slot;
	gen = flow->gen;
	if (slot == DP_SLOT_GONE || !flow_claim(flow, slot, gen, DP_SLOT_GONE))
		return 0;
	bpf_map_delete_elem(&flows, &key);
	if (slot == DP_NO_SLOT)
		l->waiting--;
	else if (flow_detach_shadow(skb, slot, gen))
		flow_send_rest(skb, slot, gen, l);
	ledger_event(l, DP_EVENT_source_gone);
	return 1;
}

#endif
