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

struct flow_gap {
	__u32 missing; /* bytes that the source has, and nobody here */
	__u32 unread;  /* of these, what packets held that could not be read */
	__u32 name;    /* of what could not be read: enum dp_excluded */
};

/*
 * The flow waits from here on, behind all that its shadow has taken and what has been excluded
 * since. `gap`: the source has every byte below `taken`, and what of it is missing is in *g.
 */
static __always_inline void flow_leave_locked(struct dp_flow *flow, const struct dp_shadow *sh,
					      bool gap, __u32 taken, struct flow_gap *g)
{
	__u32 next = flow->seen ? seq_max(flow->next, sh->tcp.end) : sh->tcp.end;

	g->missing = gap ? seq_gap(next, taken) : 0;
	g->name = shadow_hole_name(sh, next, g->missing);
	g->unread = sh->tcp.hole_len < g->missing ? sh->tcp.hole_len : g->missing;
	if (!g->name)
		g->unread = 0;
	flow->next = next + g->missing;
	if (!flow->seen) {
		flow->ack = sh->tcp.ack_last;
		flow->push = !!(sh->tcp.flags & DP_SH_PUSH);
	}
	flow->seen = 1;
	flow->ack_valid = 1;
	flow->answered_turns = 0;
	flow->hole = g->missing ? 0 : shadow_hole_name(sh, next, 1u << 31);
	flow_note_end(flow, sh, !!(sh->tcp.flags & DP_SH_RESUME));
	if (flow->next == sh->tcp.end && shadow_resumes(sh))
		flow->marks |= DP_FLOW_RESUME;
}

/*
 * The flow of the packet leaves its shadow, and waits: it may join again at a request boundary; one
 * over the ceiling (`excluded`) not before a pause. Its stream goes on at the shadow's end. `gap`:
 * the source has every byte below `taken`; what lies between went by without us, or in packets that
 * could not be read. 1: done, or it waits already.
 */
GLOBAL int flow_leave(struct __sk_buff *skb, const struct pkt *p, __u32 excluded, bool gap,
		      __u32 taken)
{
	struct dp_flow_key key = {};
	struct flow_gap g = {};
	struct dp_shadow *sh;
	struct dp_ledger *l;
	struct dp_flow *flow;
	__u32 slot, gen, retry = 0;
	bool mine = false;

	if (!p)
		return 0;
	flow_key(&key, p);
	l = ledger_cell(key.mapping, key.target);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow || !l)
		return 0;
	slot = flow->slot;
	gen = flow->gen;
	if (slot == DP_NO_SLOT)
		return 1;
	sh = shadow_at(slot);
	if (!sh)
		return 0;
	/* One that the target closed may have ended, and its flow be bound to it still. */
	if (!flow_detach_shadow(skb, slot, gen) &&
	    (sh->gen != gen || !(sh->tcp.flags & DP_SH_RESUME)))
		return 0;
	/* The shadow may have ended on another CPU since, and its flow with it. */
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow) {
		flow->seen_ns = bpf_ktime_get_coarse_ns();
		if (excluded == DP_EXCLUDED_shed)
			retry = flow_pause(flow->seen_ns, bpf_get_prandom_u32(), SHED_PAUSE_MS, 1);
		bpf_spin_lock(&flow->lock);
		/* While the flow is bound, the slot cannot be another's: shadow_unbind(). */
		mine = flow->slot == slot && flow->gen == gen;
		if (mine) {
			flow->excluded = excluded;
			flow->retry = retry;
			flow_leave_locked(flow, sh, gap, taken, &g);
			flow->slot = DP_NO_SLOT;
		}
		bpf_spin_unlock(&flow->lock);
	}
	if (mine) {
		l->waiting++;
		ledger_exclude(l, g.name, g.unread);
		ledger_miss(l, DP_LOST_client_gap, g.missing - g.unread);
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
	flow_delete(&key);
	if (slot == DP_NO_SLOT)
		l->waiting--;
	else if (flow_detach_shadow(skb, slot, gen))
		flow_send_rest(skb, slot, gen, l);
	ledger_event(l, DP_EVENT_source_gone);
	return 1;
}

#endif
