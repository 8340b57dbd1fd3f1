/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Bytes that crossed the target's end of their shadow (DP_SH_CARRY) go on in a new one. Run by
 * deliver: its stack has the room.
 */
#ifndef DOPPEL_CARRY_BPF_H
#define DOPPEL_CARRY_BPF_H

#include "flow/begin.bpf.h"
#include "flow/flow.bpf.h"
#include "flow/limit.bpf.h"
#include "packet/txreq.bpf.h"
#include "store.bpf.h"
#include "tcp/finish.bpf.h"
#include "tcp/path_mtu.bpf.h"
#include "tcp/preamble.bpf.h"
#include "tcp/timer.bpf.h"

struct store_move {
	struct dp_store_key from;
	__u32 slot;
	__u32 gen;
	__u32 moved;
	__u32 freed;
	__u32 lost; /* chunks for which the new key found no place */
};

static long store_move_one(__u32 i, struct store_move *m)
{
	__u32 *known = bpf_map_lookup_elem(&store, &m->from), index;
	struct dp_store_key to = {.slot = m->slot, .gen = m->gen, .chunk = m->from.chunk};

	if (known) {
		index = *known;
		/* First the deletion: the table has no row to spare when the store is full. */
		if (bpf_map_delete_elem(&store, &m->from)) {
			m->lost++;
		} else if (bpf_map_update_elem(&store, &to, &index, BPF_NOEXIST)) {
			store_unuse(chunk_release(index));
			m->freed++;
			m->lost++;
		} else {
			m->moved++;
		}
	}
	m->from.chunk = chunk_next(m->from.chunk);
	return 0;
}

/*
 * Chunks with bytes of [from, to), from one shadow of a client to another of its. Returns how many
 * were lost. Nobody else knows of them: the one has ended, and no flow leads to the other.
 */
GLOBAL __u32 store_rekey(__u32 slot, __u32 new_slot, __u32 from, __u32 to)
{
	struct dp_shadow *old = shadow_at(slot), *sh = shadow_at(new_slot);
	struct store_move m = {.from = {.slot = slot}, .slot = new_slot};
	__u32 n = ((to - 1) >> DP_CHUNK_SHIFT) - (from >> DP_CHUNK_SHIFT);

	if (!old || !sh)
		return 1;
	n = (n & CHUNK_MASK) + 1;
	if (n > CARRY_CHUNKS)
		return n;
	m.from.gen = old->tcp.store_gen;
	m.gen = sh->tcp.store_gen;
	m.from.chunk = from >> DP_CHUNK_SHIFT;
	bpf_loop(n, store_move_one, &m, 0);
	sh->tcp.chunks = m.moved;
	client_count_chunks(store_row(&sh->ep.key), limit_row(&sh->ep.key), -m.freed);
	return m.lost;
}

/* No flow leads to the new shadow: it sends what it has and closes by itself. */
static __always_inline int carry_alone(struct dp_shadow *sh)
{
	bpf_spin_lock(&sh->lock);
	if (!shadow_fin_placed(sh)) {
		sh->tcp.ahead = sh->tcp.end;
		sh->tcp.flags |= DP_SH_CLIENT_FIN;
		sh->tcp.fin = sh->tcp.end;
	}
	bpf_spin_unlock(&sh->lock);
	return 0;
}

/* The flow of the former shadow, if it is still its, leads to the new one. 0, or an error. */
GLOBAL int flow_rebind(__u32 slot, __u32 gen, __u32 new_slot)
{
	struct dp_shadow *old = shadow_at(slot), *sh = shadow_at(new_slot);
	struct dp_flow flow = {.slot = new_slot}, *f;
	struct dp_flow_key key;
	bool mine = false;

	if (!old || !sh)
		return -1;
	key = old->ep.key;
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f)
		return carry_alone(sh);
	bpf_spin_lock(&f->lock);
	mine = flow_claim_locked(f, slot, gen, DP_NO_SLOT);
	if (mine) {
		f->marks = DP_FLOW_CARRIED;
		flow.next = f->next;
		flow.seen = f->seen;
	}
	bpf_spin_unlock(&f->lock);
	if (!mine)
		return carry_alone(sh);
	flow.gen = sh->gen;
	flow.seen_ns = sh->tcp.seen_ns;
	flow.breaks = sh->tcp.breaks;
	flow.fruitless = sh->tcp.fruitless;
	if (!bpf_map_update_elem(&flows, &key, &flow, BPF_EXIST))
		return 0;
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f)
		return carry_alone(sh);
	bpf_spin_lock(&f->lock);
	mine = f->slot == DP_NO_SLOT && f->marks == DP_FLOW_CARRIED;
	if (mine) {
		f->slot = new_slot;
		f->gen = flow.gen;
		f->marks = 0;
	}
	bpf_spin_unlock(&f->lock);
	return mine ? 0 : carry_alone(sh);
}

/* The new shadow knows of the stream what the old one, which has ended, knew. */
static __always_inline void carry_stream_locked(struct dp_shadow *sh, const struct dp_shadow *old)
{
	sh->tcp.flags |= old->tcp.flags &
			 (DP_SH_CLIENT_FIN | DP_SH_CLIENT_RST | DP_SH_FIN_AHEAD | DP_SH_PUSH);
	sh->tcp.end = old->tcp.end;
	sh->tcp.ahead = old->tcp.ahead;
	sh->tcp.fin = old->tcp.fin;
	sh->tcp.store_end = old->tcp.store_end;
	sh->tcp.observed = old->tcp.end - old->tcp.una;
	sh->tcp.ack_last = old->tcp.ack_last;
}

/* Ends the shadow if it may be carried right now; its bytes are not lost by that. */
static __always_inline bool carry_end_locked(struct dp_shadow *sh, __u32 gen,
					     struct shadow_totals *r)
{
	if (sh->gen != gen || !shadow_is_open(sh) || sh->tcp.refs)
		return false;
	if (!shadow_may_carry(sh, sh->tcp.una)) {
		sh->tcp.flags &= ~DP_SH_CARRY;
		return false;
	}
	shadow_end_locked(sh, r, true);
	r->pending = 0;
	return true;
}

/*
 * The shadow ends, with *r for shadow_finish(), and its stream begins anew in `new_slot`, in
 * SYN-SENT. 0: it may not be carried now, and nothing was done.
 */
GLOBAL int carry_begin(__u32 slot, __u32 gen, __u32 new_slot, struct shadow_totals *r)
{
	struct dp_shadow *old = shadow_at(slot), *sh = shadow_at(new_slot);
	struct flow_start b = {.slot = new_slot, .wscale = JOIN_WSCALE};
	__u64 now = bpf_ktime_get_coarse_ns();
	const struct dp_target *target;
	struct dp_mapping *m;
	bool taken, watch;

	if (!old || !sh || !r)
		return 0;
	m = mapping_at(old->ep.key.mapping);
	if (!m)
		return 0;
	target = target_at(m, old->ep.key.target);
	bpf_spin_lock(&old->lock);
	taken = carry_end_locked(old, gen, r);
	bpf_spin_unlock(&old->lock);
	if (!taken)
		return 0;
	b.isn = old->tcp.una - 1;
	b.ack = old->tcp.ack_seen;
	b.tsval = old->tcp.ts_val;
	b.flags = DP_SH_JOINED | DP_SH_SACK | DP_SH_WSCALE | (old->tcp.flags & DP_SH_TS);
	b.target_port = old->ep.target_port;
	b.ttl = old->tcp.ttl;
	b.breaks = old->tcp.breaks;
	b.fruitless = old->tcp.fruitless;
	bpf_spin_lock(&sh->lock);
	shadow_start_locked(sh, &b, target, now);
	carry_stream_locked(sh, old);
	watch = timer_wanted_locked(sh);
	bpf_spin_unlock(&sh->lock);
	if (watch)
		timer_watch(new_slot);
	return 1;
}

/* Why its bytes are lost if nothing can take them. Who timed out has tried. */
static __always_inline __u32 carry_lost(const struct dp_shadow *old)
{
	if (old->tcp.flags & DP_SH_TARGET_FIN)
		return DP_LOST_target_closed;
	return old->tcp.tries ? DP_LOST_target_timeout : DP_LOST_target_reset;
}

static __always_inline void carry_send(struct __sk_buff *skb, __u32 slot, __u32 gen, __u32 seq,
				       __u8 flags)
{
	struct txreq req = {.kind = TXREQ_SEGMENT, .slot = slot, .gen = gen};
	struct dp_shadow *sh = shadow_at(slot);

	req.segment.seq = seq;
	req.segment.flags = flags;
	if (txreq_clone(skb, &req, 0) && sh)
		ledger_event(shadow_ledger(sh), DP_EVENT_clone_failed);
}

/* The bytes of the shadow go to a new one; skb: template for its SYN. */
GLOBAL int flow_carry(struct __sk_buff *skb, __u32 slot, __u32 gen)
{
	struct dp_shadow *old = shadow_at(slot), *sh;
	struct shadow_totals r = {};
	__u32 mapping, target, to = DP_NO_SLOT;
	struct dp_ledger *l;
	bool whole;

	if (!old)
		return 0;
	mapping = old->ep.key.mapping;
	target = old->ep.key.target;
	if (limit_refuses(mapping, target, &old->ep.key.client, true) < 0)
		to = claim_port(skb, mapping, target, old->ep.target_port);
	sh = shadow_at(to);
	if (!sh) {
		shadow_break(slot, gen, carry_lost(old));
		return 0;
	}
	shadow_name(to, &old->ep.key, old->ep.target_port);
	if (!carry_begin(slot, gen, to, &r)) {
		slot_give_back(to);
		return 0;
	}
	whole = !store_rekey(slot, to, old->tcp.una, seq_max(old->tcp.end, old->tcp.ahead));
	flow_rebind(slot, gen, to);
	limit_half_open(mapping, target, 1);
	client_count(&sh->ep.key.client, 0, 1, 1);
	l = ledger_cell(mapping, target);
	if (l) {
		l->open++;
		l->slots++;
		l->joined++;
		l->event[old->tcp.tries ? DP_EVENT_idle_break : DP_EVENT_resumed]++;
	}
	sh->ep.oif = old->ep.oif;
	/* A target that sent its FIN may wait for ours, and one that is no longer heard may hear.
	 */
	if ((old->tcp.flags & DP_SH_TARGET_FIN) || old->tcp.tries)
		carry_send(skb, slot, gen, old->tcp.nxt, TCP_RST | TCP_ACK);
	shadow_finish(slot, &r, END_CLEAN);
	timer_learn(to, sh->gen);
	path_mtu_recall(to);
	if (whole)
		carry_send(skb, to, sh->gen, preamble_recall(to, sh->gen), TCP_SYN);
	else
		shadow_break(to, sh->gen, DP_LOST_store_full);
	return 0;
}

#endif
