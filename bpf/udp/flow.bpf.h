/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows of UDP. Each has a slot, and with it a shadow port, like one of TCP; there is no
 * connection, so it begins with a datagram and ends when it has been silent for udp_timeout.
 */
#ifndef DOPPEL_UDP_FLOW_BPF_H
#define DOPPEL_UDP_FLOW_BPF_H

#include "flow/limit.bpf.h"
#include "flow/open.bpf.h"
#include "tcp/finish.bpf.h"
#include "udp/end.bpf.h"
#include "udp/rewrite.bpf.h"

/* So many slots are looked at for silent flows whenever one begins, and when none is free. */
#define UDP_LOOKS      4
#define UDP_MANY_LOOKS 1024

/*
 * Whoever forges addresses needs no handshake: UDP never takes more than this part of the slots, of
 * each pool, since the connections of a target may have but one.
 */
#define UDP_PART 2

struct udp_idle {
	__u64 before; /* seen last before this: silent */
	__u32 from;   /* slot */
};

static long udp_idle_look(__u32 i, struct udp_idle *w)
{
	__u32 slot = (w->from + i) % cfg.slots;
	struct dp_shadow *sh = shadow_at(slot);

	if (!sh)
		return 1;
	if (sh->tcp.state == DP_DATAGRAMS && (__s64)(sh->tcp.seen_ns - w->before) < 0 &&
	    udp_end(slot, sh->gen))
		ledger_event(shadow_ledger(sh), DP_EVENT_idle);
	return 0;
}

/* Forgets silent flows, as far as it comes across them. */
GLOBAL int udp_expire(__u32 looks)
{
	struct udp_state *u = udp_state(0);
	struct udp_idle w = {};

	if (!u)
		return 0;
	w.before = bpf_ktime_get_coarse_ns() - cfg.udp_timeout_s * NSEC_PER_SEC;
	w.from = u->cursor;
	if (looks > cfg.slots)
		looks = cfg.slots;
	bpf_loop(looks, udp_idle_look, &w, 0);
	u->cursor = (w.from + looks) % cfg.slots;
	return 0;
}

static __always_inline bool udp_has_room(__u32 pool)
{
	struct udp_state *u = udp_state(pool);

	return u && u->flows < cfg.ports / UDP_PART;
}

/* As try_port(). */
static long udp_try_port(__u32 i, struct port_search *s)
{
	__u32 pool = target_pool(s->to, s->turn + i), size, slot;
	struct bpf_sock_tuple tuple;

	if (!udp_has_room(pool) || !slot_take(pool, &slot))
		return target_pools(s->to) == 1;
	size = sock_tuple(&tuple, &s->to->address, s->target_port, pool_address(pool, s->to),
			  port_of_slot(slot));
	if (!udp_socket_exists(s->skb, &tuple, size)) {
		s->slot = slot;
		return 1;
	}
	slot_give_back(slot);
	s->skipped++;
	return 0;
}

/* As claim_port(): a port that no socket of this host has. */
GLOBAL __u32 udp_claim_port(struct __sk_buff *skb, __u32 mapping, __u32 target, __u32 target_port)
{
	struct port_search s = {.skb = skb, .target_port = target_port, .slot = DP_NO_SLOT};
	struct dp_mapping *m = mapping_at(mapping);
	struct dp_ledger *l = ledger_cell(mapping, target);

	if (!m || !l)
		return DP_NO_SLOT;
	s.to = target_at(m, target);
	if (target_pools(s.to) > 1)
		s.turn = bpf_get_prandom_u32() >> 8;
	bpf_loop(PORT_TRIES, udp_try_port, &s, 0);
	l->event[DP_EVENT_port_in_use] += s.skipped;
	return s.slot;
}

static __always_inline void udp_start_locked(struct dp_shadow *sh, __u8 ttl,
					     const struct dp_target *target, __u64 now)
{
	/* It may still be in the timer's queue. */
	__u32 flags = sh->tcp.flags & DP_SH_TIMER, store_gen = sh->tcp.store_gen + 1;

	sh->gen = (sh->gen + 1) & 0x7fffffff;
	__builtin_memset(&sh->tcp, 0, sizeof(sh->tcp));
	sh->tcp.flags = flags | DP_SH_UDP | (target->keep_client ? DP_SH_KEPT : 0);
	sh->tcp.store_gen = store_gen;
	sh->tcp.ttl = ttl;
	sh->tcp.opened_ns = now;
	sh->tcp.seen_ns = now;
	sh->tcp.state = DP_DATAGRAMS;
}

/*
 * As flow_bind(). `v`: SHADOW; or EXCLUDE or GONE, and the slot is the caller's to give back.
 */
GLOBAL int udp_bind(const struct dp_flow_key *flow_key, const struct flow_start *b,
		    struct verdict *v)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	const struct dp_target *target;
	struct dp_flow flow = {};
	struct dp_flow_key key;
	struct dp_mapping *m;
	struct dp_shadow *sh;
	struct dp_ledger *l;
	__u32 slot;

	if (!flow_key || !b || !v)
		return 0;
	v->kind = VERDICT_GONE;
	key = *flow_key; /* kernel 6.1 takes a map's key from the stack, not from an argument */
	slot = b->slot;
	m = mapping_at(key.mapping);
	l = ledger_cell(key.mapping, key.target);
	sh = shadow_at(slot);
	if (!m || !sh || !l)
		return 0;
	target = target_at(m, key.target);
	bpf_spin_lock(&sh->lock);
	udp_start_locked(sh, b->ttl, target, now);
	bpf_spin_unlock(&sh->lock);
	flow.slot = slot;
	flow.gen = sh->gen;
	flow.seen_ns = now;
	flow_enter(&key, &flow, 0, l, v);
	if (v->kind == VERDICT_SHADOW) {
		l->open++;
		l->slots++;
		l->opened++;
	} else {
		bpf_spin_lock(&sh->lock);
		sh->tcp.state = DP_TIME_WAIT; /* no flow leads here */
		bpf_spin_unlock(&sh->lock);
	}
	sh->ep.oif = target->oif;
	return 0;
}

/* A slot for one more flow; DP_NO_SLOT: `v` has the reason. */
static __always_inline __u32 udp_slot(struct __sk_buff *skb, const struct dp_flow_key *key,
				      __be16 target_port, struct verdict *v)
{
	int refused = limit_refuses(key->mapping, key->target, &key->client, false);

	v->reason = refused < 0 ? DP_EXCLUDED_ports_exhausted : refused;
	return refused < 0 ? udp_claim_port(skb, key->mapping, key->target, target_port)
			   : DP_NO_SLOT;
}

/* A flow for the packet, and a slot. `v`: SHADOW, EXCLUDE, or GONE: another CPU was first. */
GLOBAL int udp_open(struct __sk_buff *skb, const struct pkt *p, struct verdict *v)
{
	struct flow_start b = {};
	struct dp_flow_key key = {};
	struct dp_mapping *m;
	bool bound;

	if (!p || !v)
		return 0;
	v->kind = VERDICT_EXCLUDE;
	v->reason = DP_EXCLUDED_ports_exhausted;
	m = mapping_at(p->mapping);
	if (!m)
		return 0;
	flow_key(&key, p);
	udp_expire(UDP_LOOKS);
	b.ttl = udp_ttl(p->ttl);
	b.target_port = bpf_htons(target_at(m, p->target)->port + p->port_offset);
	b.slot = udp_slot(skb, &key, b.target_port, v);
	if (b.slot == DP_NO_SLOT) {
		udp_expire(UDP_MANY_LOOKS);
		b.slot = udp_slot(skb, &key, b.target_port, v);
	}
	if (b.slot == DP_NO_SLOT)
		return 0;
	shadow_name(b.slot, &key, b.target_port);
	udp_bind(&key, &b, v);
	bound = v->kind == VERDICT_SHADOW;
	client_count(&key.client, v->rows, bound, 0);
	v->rows = 0;
	if (bound)
		udp_count(b.slot, 1);
	else
		slot_give_back(b.slot);
	return 0;
}

#endif
