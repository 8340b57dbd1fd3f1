/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which flow a captured packet belongs to, and whether it has a shadow that may take it. */
#ifndef DOPPEL_FIND_BPF_H
#define DOPPEL_FIND_BPF_H

#include "flow/acceptable.bpf.h"
#include "flow/bar.bpf.h"
#include "flow/detach.bpf.h"
#include "flow/exclude.bpf.h"
#include "flow/join.bpf.h"
#include "flow/limit.bpf.h"
#include "flow/over.bpf.h"
#include "flow/unwanted.bpf.h"
#include "flow/visit.bpf.h"

static __noinline int note_syn(struct __sk_buff *skb, const struct pkt *p,
			       const struct dp_flow_key *key)
{
	struct tcp_options opt;
	struct noted_syn syn = {};

	parse_options(skb, p, &opt);
	syn.isn = p->seq;
	syn.tsval = opt.tsval;
	syn.mss = opt.mss;
	syn.wscale = opt.wscale;
	syn.flags = opt.flags;
	syn.barred = opt.barred;
	if (!opt.barred && opt.mss == DP_OWN_MSS)
		syn.barred = DP_EXCLUDED_own;
	if (!syn.barred && (opt.flags & DP_SH_TS) && visit_note(key, p->seq, opt.tsval, p->ttl))
		syn.barred = DP_EXCLUDED_ring;
	syn.data =
		p->payload > SYN_DATA_MAX ? 255 : (p->payload + SYN_DATA_UNIT - 1) / SYN_DATA_UNIT;
	syn.ttl = p->ttl;
	bpf_map_update_elem(&syns, key, &syn, BPF_ANY);
	return 0;
}

/* The former connection drains on its own; its flow's place is the new one's. */
static __always_inline void flow_supersede(struct __sk_buff *skb, const struct dp_flow_key *key,
					   struct dp_flow *flow, struct dp_ledger *l)
{
	__u32 slot = flow->slot, gen = flow->gen;

	if (flow_claim(flow, slot, gen, DP_SLOT_GONE)) {
		flow_delete(key);
		if (slot == DP_NO_SLOT)
			l->waiting--;
	}
	if (slot != DP_NO_SLOT && flow_detach_shadow(skb, slot, gen))
		flow_send_rest(skb, slot, gen, l);
}

/*
 * No flow is known: may one begin with this packet? One that must not is remembered, so that its
 * bytes are counted once; before the proof that they are the client's nothing is.
 */
static __always_inline void find_new(struct __sk_buff *skb, const struct pkt *p,
				     const struct dp_mapping *m, const struct dp_flow_key *key,
				     const struct dp_target *target, struct dp_ledger *l,
				     struct source *s, struct verdict *v)
{
	__u32 barred, out;

	if (is_over(p, key)) {
		ledger_event(l, DP_EVENT_client_retransmit);
		return;
	}
	if (comes_from_target(p, target)) {
		v->reason = DP_EXCLUDED_loop;
	} else if ((m->clients || target->sample) && (out = left_out(key))) {
		v->reason = out;
	} else if (p->ttl <= 1) {
		v->reason = DP_EXCLUDED_hops;
	} else {
		v->kind = VERDICT_BEGIN;
		/* Here and not in flow_open(), whose callers have no stack for it left on 6.1. */
		if (p->plain || !p->optlen || !p->payload)
			return;
		barred = barred_in_stream(skb, p);
		if (barred == DP_EXCLUDED_not_joined || barred == DP_EXCLUDED_tls)
			return;
		v->kind = VERDICT_DONE;
		v->reason = barred;
	}
	if (!p->payload)
		return;
	source_look(skb, p, m, s);
	if (source_accepts(s, p))
		v->kind = VERDICT_EXCLUDE;
	else
		ledger_event(l, DP_EVENT_no_socket);
}

/*
 * So many joins of no use, one after the other, are enough: the protocol has a beginning, and
 * cannot be joined. Or the target ends all of its connections at present, as one does that has no
 * room for more, or a firewall that has forgotten them: so one more is tried after UNJOINABLE_MS,
 * and as much again at random, and so on.
 */
#define FRUITLESS_MAX 6
#define UNJOINABLE_MS 30000

/*
 * The client goes on behind a shadow that may have been of no use: was it? Not if the target's
 * answer was as long as the source's, of which the client's ACK tells: such a server ends each
 * connection after its answer.
 */
static __always_inline void flow_settle(struct dp_flow *flow, const struct pkt *p)
{
	__u64 now;
	__u32 rand;

	if (!(flow->marks & DP_FLOW_SUSPECT) || !p->payload ||
	    !seq_after(p->seq + p->payload, flow->next))
		return;
	now = bpf_ktime_get_coarse_ns();
	rand = bpf_get_prandom_u32();
	bpf_spin_lock(&flow->lock);
	if (flow_waits(flow) && (flow->marks & DP_FLOW_SUSPECT)) {
		flow->marks &= ~DP_FLOW_SUSPECT;
		flow->fruitless++;
		if (flow->ack_valid && p->ack - flow->ack == flow->answer)
			flow->fruitless = 0;
		if (flow->fruitless >= FRUITLESS_MAX) {
			flow->fruitless = FRUITLESS_MAX - 1;
			flow->excluded = DP_EXCLUDED_unjoinable;
			flow->retry = flow_pause(now, rand, UNJOINABLE_MS, 1);
		}
	}
	bpf_spin_unlock(&flow->lock);
}

/*
 * The target took what it was asked and ended the last shadow without a word, as what passes it on
 * does whose server is gone: did the source say one? Its FIN alone is none.
 */
static __always_inline void flow_note_unanswered(struct dp_flow *flow, const struct pkt *p,
						 struct dp_ledger *l)
{
	if (!(flow->marks & DP_FLOW_UNANSWERED) || !flow->ack_valid ||
	    !seq_after(p->ack, flow->ack + 1))
		return;
	bpf_spin_lock(&flow->lock);
	flow->marks &= ~DP_FLOW_UNANSWERED;
	bpf_spin_unlock(&flow->lock);
	l->last.unanswered = bpf_ktime_get_coarse_ns();
}

/*
 * The target closed right where the flow stands, and the source has taken nothing beyond. Text
 * beyond a hole opens the next shadow, too, where a socket vouches for it: it will not come again.
 */
static __always_inline bool flow_resumes(const struct dp_flow *flow, const struct pkt *p,
					 const struct source *s)
{
	if (!(flow->marks & DP_FLOW_RESUME) || !p->payload || (p->flags & (TCP_SYN | TCP_RST)) ||
	    !seq_after(p->seq + p->payload, flow->next))
		return false;
	if (source_is_known(s))
		return !seq_gap(flow->next, s->rcv_nxt);
	return !seq_after(p->seq, flow->next);
}

/* The flow has no shadow: may it join with this packet? */
static __always_inline void find_waiting(struct __sk_buff *skb, const struct pkt *p,
					 const struct dp_mapping *m, const struct dp_flow_key *key,
					 struct dp_flow *flow, struct dp_ledger *l,
					 struct source *s, struct verdict *v)
{
	__u32 barred;
	bool joins;

	/* A stranger must not move where the flow stands. */
	if (flow_must_ask(p, flow)) {
		source_look(skb, p, m, s);
		if (!source_accepts(s, p)) {
			if (!exclude_segment(skb, p, m, key, l, flow, s))
				v->kind = VERDICT_GONE;
			return;
		}
	}
	if (flow->marks & DP_FLOW_CARRIED)
		return;
	flow_settle(flow, p);
	flow_note_unanswered(flow, p, l);
	if (!flow_is_barred(flow) && !(m->flags & DP_MAP_JOIN_NEVER) && p->ttl > 1) {
		joins = flow_resumes(flow, p, s);
		if (!joins && !(source_is_known(s) && s->rcv_nxt != p->seq) &&
		    join_boundary(skb, p, flow, m->application, limit_of(p->mapping, p->target)) &&
		    flow_may_retry(flow)) {
			barred = barred_in_stream(skb, p);
			if (barred)
				flow_exclude(flow, barred);
			else
				joins = true;
		}
		if (joins) {
			v->kind = VERDICT_JOIN;
			return;
		}
	}
	if ((m->flags & DP_MAP_JOIN_NEVER) && flow->excluded == DP_EXCLUDED_not_joined)
		flow_exclude(flow, DP_EXCLUDED_join_never);
	if (!exclude_segment(skb, p, m, key, l, flow, s))
		v->kind = VERDICT_GONE;
}

/* The flow has a shadow: may that take the packet, or is the mapping over its ceiling? */
static __always_inline void find_bound(struct __sk_buff *skb, const struct pkt *p,
				       const struct dp_mapping *m, const struct dp_flow *flow,
				       struct verdict *v)
{
	/* Only what continues the stream is charged: a stranger must not use up the ceiling. */
	if (m->max_bps && p->payload) {
		struct dp_limit *limit = limit_of(p->mapping, p->target);
		struct dp_shadow *sh = shadow_at(flow->slot);

		if (limit && sh && continues(p, sh->tcp.end, sh->tcp.ack_seen) &&
		    limit_exceeded(m, limit, bpf_ktime_get_coarse_ns(), p->payload)) {
			v->kind = VERDICT_LATE;
			v->reason = DP_EXCLUDED_shed;
			return;
		}
	}
	flow_found(flow, v);
}

/*
 * The source would begin a connection with this SYN: is the flow one of before? One that the source
 * is still about to begin may have come as far as its first window.
 */
static __always_inline bool flow_is_former(const struct dp_flow *flow, const struct pkt *p,
					   const struct source *s)
{
	struct dp_shadow *sh = shadow_at(flow->slot);
	__u32 next = sh ? sh->tcp.end : flow->next;

	if (s->state == SOURCE_IS_REMOTE || s->state == SOURCE_UNSEEN)
		return false; /* new_incarnation() tells, later */
	return s->state != SOURCE_SYN_RECEIVED || next - (p->seq + 1) > SYN_REACH;
}

/*
 * A SYN is noted for the connection that it may begin, which the source decides: a stranger's, or
 * one that comes again late, must not take the place of one that is known, nor have counted again
 * what was counted of one that is forgotten.
 */
static __always_inline void find_syn(struct __sk_buff *skb, const struct pkt *p,
				     const struct dp_mapping *m, const struct dp_flow_key *key,
				     struct dp_ledger *l, struct source *s)
{
	struct dp_flow *flow;

	source_look(skb, p, m, s);
	if (!source_accepts_syn(s, p)) {
		ledger_event(l, DP_EVENT_no_socket);
		return;
	}
	flow = bpf_map_lookup_elem(&flows, key);
	if (flow && flow_is_former(flow, p, s))
		flow_supersede(skb, key, flow, l);
	note_syn(skb, p, key);
}

/* The flow of the packet, in *v: BEGIN, JOIN, SHADOW, EXCLUDE, LATE, GONE, or DONE. */
GLOBAL int flow_find(struct __sk_buff *skb, const struct pkt *p, struct source *s,
		     struct verdict *v)
{
	struct dp_flow_key key = {};
	struct dp_flow *flow;
	struct dp_mapping *m;
	struct dp_ledger *l;

	if (!p || !s || !v)
		return 0;
	v->kind = VERDICT_DONE;
	m = mapping_at(p->mapping);
	l = ledger_cell(p->mapping, p->target);
	if (!m || !l)
		return 0;
	flow_key(&key, p);
	if ((p->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		find_syn(skb, p, m, &key, l, s);
		return 0;
	}
	/* RFC 9293, 3.10.7.4: a segment of an open connection has ACK, and no SYN. */
	if ((p->flags & TCP_SYN) || !(p->flags & (TCP_ACK | TCP_RST)))
		return 0;
	flow = bpf_map_lookup_elem(&flows, &key);
	/* Before kernel 6.2 a deletion may fail when it meets a look-up on its own CPU (-EBUSY). */
	if (flow && flow->slot == DP_SLOT_GONE) {
		flow_delete(&key);
		flow = NULL;
	}
	if (flow && is_paused()) {
		v->kind = VERDICT_LATE;
		v->reason = DP_EXCLUDED_paused;
		return 0;
	}
	if (flow && new_incarnation(p, &key, flow)) {
		source_look(skb, p, m, s);
		if (!source_is_known(s) && source_accepts(s, p)) {
			flow_supersede(skb, &key, flow, l);
			flow = NULL;
		}
	}
	if (!flow)
		find_new(skb, p, m, &key, target_at(m, p->target), l, s, v);
	else if (flow->slot == DP_NO_SLOT)
		find_waiting(skb, p, m, &key, flow, l, s, v);
	else
		find_bound(skb, p, m, flow, v);
	return 0;
}

#endif
