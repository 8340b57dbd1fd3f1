/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows without a shadow: what such a flow says is observed, once for every byte, and excluded with
 * the reason.
 */
#ifndef DOPPEL_EXCLUDE_BPF_H
#define DOPPEL_EXCLUDE_BPF_H

#include "flow/acceptable.bpf.h"
#include "flow/flow.bpf.h"
#include "flow/over.bpf.h"
#include "flow/unwanted.bpf.h"
#include "tcp/shadow.bpf.h"

/*
 * Excludes what is new to a flow that is not mirrored: what the source has beyond where the flow
 * stands, and what it takes of this segment. Where no socket can tell, a segment beyond a hole
 * counts with the hole: the source takes no byte behind a hole before it has those in it. A hole
 * that packets left which could not be read has their name, the segment itself the reason `why`.
 *
 * The flow is bound to `slot`, and its stream goes on at `base` there; or DP_NO_SLOT: it waits.
 * False: it is not so any more, and nothing was counted.
 */
static __always_inline bool exclude_new_bytes(struct dp_ledger *l, __u32 why, const struct pkt *p,
					      struct dp_flow *flow, const struct source *s,
					      __u32 slot, __u32 base)
{
	__u32 to = p->seq + p->payload, n = 0, hole = 0, name, gap;
	bool takes = s->state == SOURCE_NOT_ASKED || source_accepts(s, p);

	bpf_spin_lock(&flow->lock);
	if (flow->slot != slot || (flow->marks & DP_FLOW_CARRIED)) {
		bpf_spin_unlock(&flow->lock);
		return false;
	}
	if (!flow->seen && slot != DP_NO_SLOT) {
		flow->next = base;
		flow->seen = 1;
	} else if (!flow->seen && takes && p->payload) {
		flow->next = source_is_known(s) ? s->rcv_nxt : p->seq;
		flow->seen = 1;
	}
	if (source_is_known(s) && flow->seen) {
		n = seq_gap(flow->next, s->rcv_nxt);
		flow->next += n;
	}
	if (takes && p->payload && flow->seen && seq_after(to, flow->next) &&
	    (!source_is_known(s) || !seq_after(p->seq, flow->next))) {
		gap = to - flow->next;
		n += gap;
		flow->next = to;
		flow->ack = p->ack;
		flow->push = !!(p->flags & TCP_PSH);
		flow->ack_valid = 1;
	}
	if (n) /* no shadow will get these: the next one joins, at a boundary */
		flow->marks &= ~DP_FLOW_RESUME;
	name = flow->hole;
	if (n)
		flow->hole = 0;
	bpf_spin_unlock(&flow->lock);
	if (name && !(takes && n <= p->payload))
		hole = takes ? n - p->payload : n;
	ledger_exclude(l, name, hole);
	ledger_exclude(l, why, n - hole);
	return true;
}

/* The segment has text, or does more than to continue where the flow stands. */
static __always_inline bool flow_must_ask(const struct pkt *p, const struct dp_flow *flow)
{
	if (p->payload)
		return true;
	if (!flow->seen)
		return p->flags & (TCP_FIN | TCP_RST);
	return !continues(p, flow->next, flow->ack_valid ? flow->ack : p->ack);
}

/*
 * Nothing of the flow is left to count. A FIN ends it when the source has all before it: a flow
 * that is forgotten too early would count again what the source takes afterwards.
 */
static __always_inline bool exclude_is_last(const struct pkt *p, const struct dp_flow *flow,
					    const struct source *s)
{
	if (source_is_known(s) && s->fin)
		return s->rcv_nxt == flow->next;
	if (!(p->flags & (TCP_FIN | TCP_RST)) || !source_accepts(s, p) ||
	    p->seq + p->payload != flow->next)
		return false;
	return !source_is_known(s) || (p->flags & TCP_RST) || s->rcv_nxt == flow->next;
}

/* A segment of a flow without a shadow. False: it has one by now, and nothing was counted. */
static __always_inline bool exclude_segment(struct __sk_buff *skb, const struct pkt *p,
					    const struct dp_mapping *m,
					    const struct dp_flow_key *key, struct dp_ledger *l,
					    struct dp_flow *flow, struct source *s)
{
	if (flow_must_ask(p, flow))
		source_look(skb, p, m, s);
	if (s->state == SOURCE_NONE) {
		if (p->payload)
			ledger_event(l, DP_EVENT_no_socket);
		return true;
	}
	if (!exclude_new_bytes(l, flow->excluded, p, flow, s, DP_NO_SLOT, 0))
		return false;
	flow->seen_ns = bpf_ktime_get_coarse_ns();
	if (exclude_is_last(p, flow, s) && flow_claim(flow, DP_NO_SLOT, 0, DP_SLOT_GONE)) {
		if (!source_is_known(s))
			over_note(key, flow->next, flow->next);
		flow_delete(key);
		l->waiting--;
	}
	return true;
}

/*
 * A segment that its flow's shadow cannot take any more: it has just ended, or (paused) takes
 * nothing. The flow may be bound to it still, or wait already.
 */
GLOBAL int exclude_late(struct __sk_buff *skb, const struct pkt *p, __u32 why, struct source *s)
{
	struct dp_flow_key key = {};
	struct dp_shadow *sh;
	struct dp_ledger *l;
	struct dp_mapping *m;
	struct dp_flow *flow;
	__u32 slot;

	if (!p || !s)
		return 0;
	m = mapping_at(p->mapping);
	flow_key(&key, p);
	l = ledger_cell(key.mapping, key.target);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!m || !flow || !l)
		return 0;
	slot = flow->slot;
	if (slot == DP_NO_SLOT) {
		exclude_segment(skb, p, m, &key, l, flow, s);
		return 0;
	}
	sh = shadow_at(slot);
	if (!sh || sh->gen != flow->gen)
		return 0;
	if (s->state == SOURCE_NOT_ASKED && !continues(p, sh->tcp.end, sh->tcp.ack_seen))
		source_look(skb, p, m, s);
	if (s->state == SOURCE_NONE)
		return 0;
	exclude_new_bytes(l, why, p, flow, s, slot, sh->tcp.end);
	return 0;
}

/*
 * The first segment after a SYN with payload (RFC 7413): it begins behind what the source has taken
 * of that, which no shadow will get: `why`.
 */
GLOBAL int exclude_syn_data(struct __sk_buff *skb, const struct pkt *p, const struct source *s,
			    __u32 why)
{
	struct dp_flow_key key = {};
	struct noted_syn *syn;
	__u32 n;

	if (!p || !s)
		return 0;
	flow_key(&key, p);
	syn = syn_of(&key);
	if (!syn)
		return 0;
	n = p->seq - (syn->isn + 1);
	/* A hole may be what lies before the segment, and then the source has nothing of it yet. */
	if (source_is_known(s) && n > seq_gap(syn->isn + 1, s->rcv_nxt))
		n = seq_gap(syn->isn + 1, s->rcv_nxt);
	if (n && n <= 0xffff && source_accepts(s, p))
		ledger_exclude(ledger_cell(key.mapping, key.target), why, n);
	if (p->seq != syn->isn + 1 || p->payload)
		bpf_map_delete_elem(&syns, &key);
	return 0;
}

/* New bytes of a flow that cannot be remembered: what the source knows is all that is known. */
static __always_inline __u32 exclude_unremembered(const struct pkt *p, const struct source *s)
{
	__u32 from = source_is_known(s) ? seq_max(p->seq, s->rcv_nxt) : p->seq;
	__u32 to = p->seq + p->payload;

	return seq_after(to, from) ? to - from : 0;
}

/* Nothing of the flow was counted yet: all from there on is to be. */
static __always_inline void flow_begin_at(struct dp_flow *f, __u32 next)
{
	bpf_spin_lock(&f->lock);
	if (!f->seen && f->slot == DP_NO_SLOT) {
		f->next = next;
		f->seen = 1;
	}
	bpf_spin_unlock(&f->lock);
}

/*
 * The row of a flow that has no shadow, for now or for good; it is made where there is none. NULL:
 * the table is full, or its client has its share of it, and the segment is excluded with that.
 */
static __always_inline struct dp_flow *flow_wait(const struct pkt *p, const struct dp_flow_key *key,
						 struct dp_ledger *l, __u32 why,
						 const struct source *s)
{
	struct dp_flow flow = {.slot = DP_NO_SLOT, .excluded = why};
	struct noted_syn *syn;
	struct dp_flow *f;
	__u32 at, end;

	f = bpf_map_lookup_elem(&flows, key);
	if (!f && client_may_enter(&key->client)) {
		if (!bpf_map_update_elem(&flows, key, &flow, BPF_NOEXIST)) {
			l->waiting++;
			client_count(&key->client, 1, 0, 0);
		}
		f = bpf_map_lookup_elem(&flows, key);
	}
	if (!f) {
		/* What is left out is not missed for want of room. */
		ledger_exclude(l, is_left_out(why) ? why : DP_EXCLUDED_table_full,
			       exclude_unremembered(p, s));
		/* Its first bytes are gone: it may only join, and not even that where the SYN says
		 * so.
		 */
		syn = syn_of(key);
		if (syn && !syn->barred)
			bpf_map_delete_elem(&syns, key);
		return NULL;
	}
	/*
	 * Where its stream begins is known: also what comes before this is counted, but not again
	 * where the SYN came late and the source is further.
	 */
	syn = syn_of(key);
	if (syn && !syn->data && f->slot == DP_NO_SLOT &&
	    !(source_is_known(s) && s->rcv_nxt != syn->isn + 1)) {
		flow_begin_at(f, syn->isn + 1);
	} else if (!f->seen) {
		at = source_is_known(s) ? s->rcv_nxt : p->seq;
		end = over_end(key, at);
		if (end != at)
			flow_begin_at(f, end);
	}
	return f;
}

/*
 * A flow that has no shadow, for now or for good, is remembered with the reason, and its segment
 * excluded. `v`: VERDICT_SHADOW or VERDICT_GONE when another CPU has bound the flow meanwhile, else
 * VERDICT_DONE.
 */
GLOBAL int exclude_flow(struct __sk_buff *skb, const struct pkt *p, __u32 why, struct source *s,
			struct verdict *v)
{
	struct dp_flow_key key = {};
	struct dp_mapping *m;
	struct dp_ledger *l;
	struct dp_flow *f;

	if (!p || !v || !s)
		return 0;
	v->kind = VERDICT_DONE;
	m = mapping_at(p->mapping);
	flow_key(&key, p);
	l = ledger_cell(key.mapping, key.target);
	if (!l || !m)
		return 0;
	if (is_left_out(why))
		exclude_syn_data(skb, p, s, why);
	f = flow_wait(p, &key, l, why, s);
	if (!f)
		return 0;
	if (f->slot != DP_NO_SLOT) {
		flow_found(f, v);
		return 0;
	}
	if (!exclude_segment(skb, p, m, &key, l, f, s))
		v->kind = VERDICT_GONE;
	bpf_map_delete_elem(&syns, &key); /* its first bytes are gone: it may only join */
	return 0;
}

/*
 * A packet of which no copy can be made, and its kind: enum dp_excluded. It leaves a hole in its
 * flow's stream. Where a shadow waits for these bytes, what is missing when the source goes on is
 * counted by that name (flow_leave); where none does, they are excluded now, and what the packet
 * does not tell of them (the rest of a fragment's) with the next.
 */
GLOBAL int exclude_hole(struct __sk_buff *skb, const struct pkt *p, __u32 kind, struct source *s)
{
	struct dp_flow_key key = {};
	struct noted_syn *syn;
	struct dp_shadow *sh;
	struct dp_mapping *m;
	struct dp_ledger *l;
	struct dp_flow *f;
	__u32 why, out;

	if (!p || !s || !p->payload || (p->flags & TCP_SYN))
		return 0;
	m = mapping_at(p->mapping);
	flow_key(&key, p);
	l = ledger_cell(key.mapping, key.target);
	if (!l || !m)
		return 0;
	f = bpf_map_lookup_elem(&flows, &key);
	if (f && f->slot != DP_NO_SLOT) {
		sh = shadow_at(f->slot);
		if (!sh)
			return 0;
		bpf_spin_lock(&sh->lock);
		if (sh->gen == f->gen)
			shadow_note_hole_locked(sh, p, kind);
		bpf_spin_unlock(&sh->lock);
		return 0;
	}
	if (!f && is_over(p, &key)) {
		ledger_event(l, DP_EVENT_client_retransmit);
		return 0;
	}
	source_look(skb, p, m, s);
	/* No TCP of this host was given it, nor a part of it (ip_rcv_core). */
	if (kind == DP_EXCLUDED_truncated && source_is_known(s)) {
		ledger_event(l, DP_EVENT_malformed);
		return 0;
	}
	if (!source_accepts(s, p)) {
		ledger_event(l, DP_EVENT_no_socket);
		return 0;
	}
	if (!f && comes_from_target(p, target_at(m, p->target))) {
		ledger_exclude(l, DP_EXCLUDED_loop, p->payload);
		return 0;
	}
	syn = syn_of(&key);
	why = syn ? syn->barred : DP_EXCLUDED_not_joined;
	out = f ? f->excluded : left_out(&key);
	if (is_left_out(out))
		why = out;
	if (is_left_out(why))
		kind = why;
	f = flow_wait(p, &key, l, why, s);
	if (!f || f->slot != DP_NO_SLOT)
		return 0;
	exclude_new_bytes(l, kind, p, f, s, DP_NO_SLOT, 0);
	f->hole = kind;
	f->seen_ns = bpf_ktime_get_coarse_ns();
	bpf_map_delete_elem(&syns, &key); /* its first bytes are gone: it may only join */
	return 0;
}

#endif
