/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Capture of UDP. What a socket of this host takes is observed; the network namespace's own word is
 * all that there is, since nobody acknowledges a datagram.
 */
#ifndef DOPPEL_UDP_CAPTURE_BPF_H
#define DOPPEL_UDP_CAPTURE_BPF_H

#include "flow/mapping.bpf.h"
#include "flow/unwanted.bpf.h"
#include "socket.bpf.h"
#include "udp/flow.bpf.h"
#include "udp/fragments.bpf.h"
#include "udp/send.bpf.h"

/* Why the target does not get the datagram, whatever flow it is of: enum dp_excluded; -1: it does.
 */
static __always_inline int udp_excluded(const struct pkt *p, const struct dp_mapping *m,
					const struct dp_flow_key *key,
					const struct dp_target *target)
{
	struct dp_limit *limit = limit_of(p->mapping, p->target);
	__u32 out;

	if (comes_from_target(p, target))
		return DP_EXCLUDED_loop;
	if (m->clients || target->sample) {
		out = left_out(key);
		if (out != DP_EXCLUDED_not_joined)
			return out;
	}
	if (p->ttl <= 1)
		return DP_EXCLUDED_hops;
	if (is_paused())
		return DP_EXCLUDED_paused;
	if (m->max_bps && limit && limit_exceeded(m, limit, bpf_ktime_get_coarse_ns(), p->payload))
		return DP_EXCLUDED_shed;
	return -1;
}

/* The flow of the packet, which begins here if it is new. `v`: SHADOW or EXCLUDE. */
static __always_inline void udp_find(struct __sk_buff *skb, const struct pkt *p,
				     const struct dp_flow_key *key, bool begin, struct verdict *v)
{
	struct dp_flow *flow = bpf_map_lookup_elem(&flows, key);

	v->kind = VERDICT_EXCLUDE;
	v->reason = DP_EXCLUDED_not_joined;
	/* Its deletion failed: see flow_find(). */
	if (flow && flow->slot == DP_SLOT_GONE) {
		flow_delete(key);
		flow = NULL;
	}
	if (!flow && begin)
		udp_open(skb, p, v);
	if (!flow && v->kind == VERDICT_GONE)
		flow = bpf_map_lookup_elem(&flows, key);
	if (flow)
		flow_found(flow, v);
}

/* The packet for p->target and p->copy; shape: of it, enum pkt_shape. */
GLOBAL int udp_target(struct __sk_buff *skb, const struct pkt *p, __u32 shape)
{
	struct dp_flow_key key = {};
	struct verdict v = {};
	struct dp_mapping *m;
	struct dp_shadow *sh;
	struct dp_ledger *l;
	int why, sent;

	if (!p)
		return 0;
	m = mapping_at(p->mapping);
	l = ledger_cell(p->mapping, p->target);
	if (!m || !l)
		return 0;
	flow_key(&key, p);
	if (shape != PKT_UDP_LATER) {
		l->captured += skb->gso_segs ?: 1;
		why = udp_excluded(p, m, &key, target_at(m, p->target));
		if (why >= 0) {
			ledger_exclude(l, why, p->payload);
			return 0;
		}
	}
	udp_find(skb, p, &key, shape != PKT_UDP_LATER, &v);
	sh = shadow_at(v.slot);
	if (v.kind != VERDICT_SHADOW || !sh || sh->gen != v.gen) {
		if (shape != PKT_UDP_LATER)
			ledger_exclude(l,
				       v.kind == VERDICT_EXCLUDE ? v.reason : DP_EXCLUDED_backoff,
				       p->payload);
		return 0;
	}
	sh->tcp.seen_ns = bpf_ktime_get_coarse_ns();
	sent = udp_send(skb, p, shape, v.slot, v.gen);
	if (sent < 0 && sent != UDP_NO_COPY)
		ledger_event(l, DP_EVENT_clone_failed);
	if (shape == PKT_UDP_LATER)
		return 0;
	if (sent == UDP_NO_COPY) {
		ledger_exclude(l, DP_EXCLUDED_fragment, p->payload);
		return 0;
	}
	__sync_fetch_and_add(&sh->tcp.observed, p->payload);
	if (sent < 0) {
		ledger_miss(l, DP_LOST_not_sent, p->payload);
		return 0;
	}
	l->copied += sent;
	if (shape == PKT_UDP_FIRST)
		fragment_went(p);
	__sync_fetch_and_add(&sh->tcp.delivered, p->payload);
	ledger_deliver_datagrams(l, p->payload, bpf_ktime_get_coarse_ns());
	return 0;
}

/* For every target, and every copy: what is done with the packet. */
struct udp_walk {
	struct __sk_buff *skb;
	struct pkt p; /* ack: identification of the fragments that the first copy has */
	__u16 shape;
	__u16 targets;	/* that it is for, bit by bit */
	__u32 excluded; /* it is not copied, for this reason; ~0: it is */
};

static long udp_one(__u32 i, struct udp_walk *w)
{
	w->p.copy = i;
	if (w->excluded == ~0u)
		udp_target(w->skb, &w->p, w->shape);
	else
		ledger_exclude(ledger_cell(w->p.mapping, w->p.target), w->excluded, w->p.payload);
	return 0;
}

static __always_inline void udp_all(struct udp_walk *w, struct dp_mapping *m)
{
	__u32 n;

	for (__u32 t = 0; t < DP_MAX_TARGETS; t++) {
		if (t >= m->n_targets)
			break;
		if (!(w->targets & 1 << t))
			continue;
		n = target_at(m, t)->copies ?: 1;
		w->p.target = t;
		if (n <= DP_MAX_COPIES)
			bpf_loop(n, udp_one, w, 0);
	}
}

/* A socket of this host takes it; where none can be asked, everybody's is. */
static __always_inline bool udp_is_taken(struct __sk_buff *skb, const struct pkt *p,
					 const struct dp_mapping *m)
{
	return (m->flags & (DP_MAP_ANY_HOST | DP_MAP_EGRESS)) || udp_socket_takes(skb, p);
}

/* A fragment that is not the first goes where that went: the mapping; NULL: nowhere. */
static __noinline struct dp_mapping *udp_later(struct udp_walk *w)
{
	struct fragment *f = fragment_of(&w->p);
	struct dp_mapping *m;

	if (!f) {
		fragment_came_early(&w->p);
		return NULL;
	}
	if (f->kind != FRAGMENT_COPIED)
		return NULL;
	w->p.sport = f->sport;
	w->p.dport = f->dport;
	w->p.mapping = f->mapping;
	w->p.ack = f->id;
	w->targets = f->targets;
	m = mapping_at(f->mapping);
	return m && (m->flags & DP_MAP_UDP) && netns_is_ours(w->skb) ? m : NULL;
}

/*
 * The first of several: what follows it goes the same way, and what came before it is gone. One
 * that comes again goes on with the identification that its others have, and to no fewer targets.
 */
static __noinline void udp_first(struct udp_walk *w)
{
	struct fragment *before = fragment_of(&w->p);
	struct fragment f = {.kind = FRAGMENT_COPIED,
			     .ns = bpf_ktime_get_coarse_ns(),
			     .sport = w->p.sport,
			     .dport = w->p.dport,
			     .mapping = w->p.mapping};

	if (before && before->kind == FRAGMENT_EARLY) {
		w->excluded = DP_EXCLUDED_fragment;
		f.kind = FRAGMENT_LEFT;
	}
	/* Another datagram may have the same identification by now, of the same socket as well. */
	if (before && before->kind == FRAGMENT_COPIED && f.ns - before->ns < FRAGMENT_AGAIN_NS &&
	    before->mapping == f.mapping && before->sport == f.sport && before->dport == f.dport) {
		f.id = before->id;
		f.targets = before->targets;
	} else {
		f.id = udp_fragment_id();
	}
	if (f.id > 0xffff - DP_MAX_COPIES)
		f.id -= DP_MAX_COPIES;
	w->p.ack = f.id;
	fragment_note(&w->p, &f);
}

static __always_inline int udp_capture(struct __sk_buff *skb, __u32 direction)
{
	struct udp_walk w = {.skb = skb, .excluded = ~0u, .targets = 0xffff};
	struct dp_mapping *m;

	w.shape = udp_parse(skb, &w.p);
	if (w.shape == PKT_NONE)
		return TC_ACT_UNSPEC;
	if (w.shape == PKT_UDP_LATER) {
		m = udp_later(&w);
		if (m)
			udp_all(&w, m);
		return TC_ACT_UNSPEC;
	}
	m = mapping_of(skb, &w.p, direction);
	if (!m)
		return TC_ACT_UNSPEC;
	if (w.shape == PKT_MALFORMED || w.shape == PKT_TRUNCATED) {
		ledger_event(ledger_cell(w.p.mapping, 0), DP_EVENT_malformed);
		return TC_ACT_UNSPEC;
	}
	if (w.shape == PKT_UDP && w.p.check && !checksum_ok(skb, &w.p)) {
		ledger_event(ledger_cell(w.p.mapping, 0), DP_EVENT_bad_checksum);
		return TC_ACT_UNSPEC;
	}
	if (!udp_is_taken(skb, &w.p, m)) {
		ledger_event(ledger_cell(w.p.mapping, 0), DP_EVENT_no_socket);
		return TC_ACT_UNSPEC;
	}
	if (w.shape == PKT_IPOPTIONS)
		w.excluded = DP_EXCLUDED_ip_options;
	else if (w.shape == PKT_UDP_FIRST)
		udp_first(&w);
	udp_all(&w, m);
	return TC_ACT_UNSPEC;
}

#endif
