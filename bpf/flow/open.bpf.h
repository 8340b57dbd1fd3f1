/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How a flow gets a shadow: with the client's handshake, or by joining in mid-stream. A port for
 * it, its record in `flows`, and a SYN on its way.
 */
#ifndef DOPPEL_OPEN_BPF_H
#define DOPPEL_OPEN_BPF_H

#include "flow/acceptable.bpf.h"
#include "flow/bar.bpf.h"
#include "flow/begin.bpf.h"
#include "flow/exclude.bpf.h"
#include "flow/flow.bpf.h"
#include "flow/join.bpf.h"
#include "flow/limit.bpf.h"
#include "flow/visit.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/path_mtu.bpf.h"
#include "tcp/preamble.bpf.h"
#include "tcp/timer.bpf.h"

/*
 * Enters the flow, whose shadow begins at `next`. Of two CPUs that open the same one, the one whose
 * claim or insert succeeds wins. Pointers to the old entry are void from here on.
 */
static __always_inline void flow_enter(const struct dp_flow_key *key, const struct dp_flow *flow,
				       __u32 next, struct dp_ledger *l, struct verdict *v)
{
	struct dp_flow *old = bpf_map_lookup_elem(&flows, key);

	v->kind = VERDICT_GONE;
	if (old && !flow_claim_at(old, next))
		return;
	if (old) {
		v->rows -= flow_take_out(key);
		l->waiting--;
	}
	if (!bpf_map_update_elem(&flows, key, flow, BPF_NOEXIST)) {
		v->rows++;
		flow_found(flow, v);
	} else if (!bpf_map_lookup_elem(&flows, key)) {
		v->kind = VERDICT_EXCLUDE;
		v->reason = DP_EXCLUDED_table_full;
	}
}

/*
 * Binds the slot, which has its name, and a shadow in SYN-SENT to the flow; the SYN itself is the
 * caller's to send. `v`: SHADOW; or EXCLUDE, or GONE, and the slot is the caller's to give back.
 * True: the caller calls timer_watch().
 */
GLOBAL int flow_bind(struct __sk_buff *skb, const struct dp_flow_key *flow_key,
		     const struct flow_start *b, struct verdict *v)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	const struct dp_target *target;
	struct dp_flow flow = {};
	struct dp_flow_key key;
	struct dp_mapping *m;
	struct dp_shadow *sh;
	struct dp_ledger *l;
	__u32 slot;
	bool watch;

	if (!flow_key || !b || !v)
		return false;
	v->kind = VERDICT_GONE;
	key = *flow_key; /* kernel 6.1 takes a map's key from the stack, not from an argument */
	slot = b->slot;
	m = mapping_at(key.mapping);
	l = ledger_cell(key.mapping, key.target);
	sh = shadow_at(slot);
	if (!m || !sh || !l)
		return false;
	target = target_at(m, key.target);

	bpf_spin_lock(&sh->lock);
	shadow_start_locked(sh, b, target, now);
	watch = timer_wanted_locked(sh);
	bpf_spin_unlock(&sh->lock);
	timer_prepare();

	flow.slot = slot;
	flow.gen = sh->gen;
	flow.seen_ns = now;
	flow.breaks = b->breaks;
	flow.fruitless = b->fruitless;
	flow_enter(&key, &flow, b->isn + 1, l, v);
	if (v->kind != VERDICT_SHADOW) {
		bpf_spin_lock(&sh->lock);
		sh->tcp.state = DP_TIME_WAIT; /* no flow leads here */
		bpf_spin_unlock(&sh->lock);
		sh->ep.oif = target->oif;
		return watch;
	}
	limit_half_open(key.mapping, key.target, 1);
	l->open++;
	l->slots++;
	if (b->flags & DP_SH_JOINED)
		l->joined++;
	else
		l->opened++;
	if (b->flags & START_RESUMED)
		l->event[DP_EVENT_resumed]++;
	sh->ep.oif = target->oif;
	return watch;
}

/*
 * Slot and shadow for the flow, and a SYN on its way; known: it has a row. `v`: SHADOW, EXCLUDE or
 * GONE.
 */
static __always_inline void flow_open_shadow(struct __sk_buff *skb, const struct dp_flow_key *key,
					     bool known, struct flow_start *b, struct dp_ledger *l,
					     struct verdict *v)
{
	struct txreq syn = {.kind = TXREQ_SEGMENT, .segment = {.flags = TCP_SYN}};
	int refused = limit_refuses(key->mapping, key->target, &key->client, known);
	bool bound;

	v->kind = VERDICT_EXCLUDE;
	v->reason = refused;
	if (refused >= 0)
		return;
	b->slot = claim_port(skb, key->mapping, key->target, b->target_port);
	v->reason = DP_EXCLUDED_ports_exhausted;
	if (b->slot == DP_NO_SLOT)
		return;
	shadow_name(b->slot, key, b->target_port);
	if (flow_bind(skb, key, b, v))
		timer_watch(b->slot);
	bound = v->kind == VERDICT_SHADOW;
	client_count(&key->client, v->rows, bound, bound);
	v->rows = 0;
	if (!bound) {
		slot_give_back(b->slot);
		return;
	}
	timer_learn(v->slot, v->gen);
	path_mtu_recall(v->slot);
	syn.segment.seq = preamble_recall(v->slot, v->gen);
	if ((b->flags & (DP_SH_JOINED | DP_SH_TS)) == (DP_SH_JOINED | DP_SH_TS))
		visit_note(key, syn.segment.seq, b->tsval, b->ttl + 1);
	syn.slot = v->slot;
	syn.gen = v->gen;
	if (txreq_clone(skb, &syn, 0))
		ledger_event(l, DP_EVENT_clone_failed);
}

/*
 * The client's SYN was seen, and the packet continues it. Also when the first segment comes second:
 * it will fill the hole. Payload in the SYN (RFC 7413) is not kept; the stream is whole only if it
 * comes again.
 */
static __always_inline bool continues_syn(const struct noted_syn *syn, const struct pkt *p)
{
	return !(p->flags & TCP_RST) && p->seq - (syn->isn + 1) <= SYN_REACH &&
	       (!syn->data || (p->payload && p->seq == syn->isn + 1));
}

static __always_inline void start_from_syn(struct flow_start *b, const struct noted_syn *syn)
{
	b->isn = syn->isn;
	b->tsval = syn->tsval;
	b->flags = syn->flags;
	b->wscale = syn->wscale;
}

/* A SYN of our own, right before the request, or where the last shadow ended. */
static __always_inline void start_in_stream(struct flow_start *b, const struct pkt *p,
					    const struct dp_flow *f)
{
	b->isn = p->seq - 1;
	b->tsval = p->tsval;
	b->flags = DP_SH_JOINED | DP_SH_SACK | DP_SH_WSCALE | (p->has_ts ? DP_SH_TS : 0);
	b->wscale = JOIN_WSCALE;
	b->breaks = f ? f->breaks : 0;
	b->fruitless = f ? f->fruitless : 0;
	if (f && (f->marks & DP_FLOW_RESUME)) {
		b->isn = f->next - 1;
		b->flags |= START_RESUMED;
	}
}

/*
 * Does the flow get a shadow, and from where on? Else *excluded says why not; it stays as it is
 * where only the boundary of a request is missing.
 */
static __always_inline bool choose_start(struct __sk_buff *skb, const struct pkt *p,
					 const struct dp_mapping *m, const struct dp_flow_key *key,
					 const struct dp_flow *f, const struct noted_syn *syn,
					 const struct source *s, bool join, struct flow_start *b,
					 __u32 *excluded)
{
	if (syn && syn->barred) {
		*excluded = syn->barred;
		return false;
	}
	if (is_paused()) {
		*excluded = DP_EXCLUDED_paused;
		return false;
	}
	if (syn && continues_syn(syn, p)) {
		if (p->seq == syn->isn + 1 && begins_with_tls(skb, p)) {
			*excluded = DP_EXCLUDED_tls;
			return false;
		}
		start_from_syn(b, syn);
		return true;
	}
	if (m->flags & DP_MAP_JOIN_NEVER) {
		*excluded = DP_EXCLUDED_join_never;
		return false;
	}
	/* Where the flow is known, flow_find() has looked. */
	if (!f && tls_record(skb, p)) {
		*excluded = DP_EXCLUDED_tls;
		return false;
	}
	/* What a former flow of the connection had is not done once more. */
	if (!f && over_end(key, p->seq) != p->seq)
		return false;
	if (!(f ? join
		: source_awaits_request(s, p) && join_at_once(skb, p, m->application,
							      limit_of(p->mapping, p->target))))
		return false;
	start_in_stream(b, p, f);
	return true;
}

/*
 * A flow that is not known yet, starts anew, or may join (VERDICT_BEGIN and VERDICT_JOIN). `v`:
 * SHADOW, EXCLUDE or DONE.
 */
GLOBAL int flow_open(struct __sk_buff *skb, const struct pkt *p, struct source *s,
		     struct verdict *v)
{
	__u32 excluded = DP_EXCLUDED_not_joined;
	struct dp_flow_key key = {};
	struct flow_start b = {};
	struct noted_syn *syn;
	struct dp_mapping *m;
	struct dp_ledger *l;
	struct dp_flow *f;
	bool open, join;

	if (!p || !s || !v)
		return 0;
	join = v->kind == VERDICT_JOIN;
	v->kind = VERDICT_DONE;
	m = mapping_at(p->mapping);
	l = ledger_cell(p->mapping, p->target);
	if (!m || !l)
		return 0;
	flow_key(&key, p);
	b.ttl = p->ttl - 1;
	b.ack = p->ack;
	b.target_port = bpf_htons(target_at(m, p->target)->port + p->port_offset);
	f = bpf_map_lookup_elem(&flows, &key);
	syn = f ? NULL : syn_of(&key);
	/* A SYN that came late, or a stranger's, for a stream that is not at its beginning. */
	if (syn) {
		source_look(skb, p, m, s);
		if (source_is_known(s) && s->rcv_nxt - (syn->isn + 1) > syn->data * SYN_DATA_UNIT) {
			bpf_map_delete_elem(&syns, &key);
			syn = NULL;
		}
	}
	/*
	 * What the source does not take is not part of any stream, and is not observed. Before the
	 * proof nothing changes, not even what `auto` believes that a mapping speaks.
	 */
	if (!f) {
		source_look(skb, p, m, s);
		if (!source_accepts(s, p)) {
			if (p->payload)
				ledger_event(l, DP_EVENT_no_socket);
			return 0;
		}
	}
	open = choose_start(skb, p, m, &key, f, syn, s, join, &b, &excluded);
	if (syn && syn->data)
		exclude_syn_data(skb, p, s, DP_EXCLUDED_not_joined);
	if (open) {
		source_look(skb, p, m, s);
		if (!source_accepts(s, p))
			return 0;
	}
	if (open) {
		flow_open_shadow(skb, &key, f, &b, l, v);
		if (v->kind == VERDICT_SHADOW && !(b.flags & DP_SH_JOINED))
			bpf_map_delete_elem(&syns, &key);
		f = bpf_map_lookup_elem(&flows, &key);
		if (f && f->slot != DP_NO_SLOT) {
			flow_found(f, v);
			return 0;
		}
		if (v->kind == VERDICT_EXCLUDE) {
			excluded = v->reason;
			if (f)
				flow_exclude(f, excluded);
		}
		v->kind = VERDICT_DONE;
	}
	if (p->payload) {
		v->kind = VERDICT_EXCLUDE;
		v->reason = excluded;
	}
	return 0;
}

#endif
