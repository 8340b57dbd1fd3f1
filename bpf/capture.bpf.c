// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Capture: sees every packet of the device, wants those of a mapping, and gives the verdict
 * TC_ACT_UNSPEC to all. It reads the original and writes nothing of it; what a failure costs
 * is a copy, which is counted, and never the packet.
 */
#include "checksum.bpf.h"
#include "flow.bpf.h"
#include "join.bpf.h"

/* Extends the captured stream by [from, to). Returns how many bytes are new; 0xffffffff: there
 * are more holes than can be remembered.
 */
static __always_inline __u32 extend_locked(struct dp_shadow *sh, __u32 from, __u32 to)
{
	bool in_order = !seq_after(from, sh->end);
	__u32 added, start, end;

	if (in_order) {
		if (!seq_after(to, sh->end))
			return 0;
		from = sh->end;
		if (!sh->n_ooo) {
			sh->end = to;
			return to - from;
		}
	}
	added = range_take(sh->ooo, DP_MAX_OOO, &sh->n_ooo, from, to, &start, &end);
	if (in_order)
		sh->end = end;
	else if (!range_put(sh->ooo, DP_MAX_OOO, &sh->n_ooo, start, end))
		return 0xffffffff;
	return added;
}

#define DP_HOLE_NS                                                                                 \
	5000000000ull	 /* a hole this old will not be filled: the source had it otherwise */
#define DP_JOIN_WSCALE 7 /* 8 MB, Linux' own choice for its default buffers */

enum capture_action {
	ACT_NONE = 0,
	ACT_COPY,
	ACT_WORK,
};

/* May this very packet become the segment that the shadow sends next? */
static __always_inline bool copyable(struct __sk_buff *skb, const struct pkt *p,
				     const struct dp_shadow *sh)
{
	__u32 size = (skb->gso_size ?: p->payload) + p->optlen;
	__u32 room = sh->mss + (sh->flags & DP_SH_TS ? DP_TS_LEN : 0);

	return p->plain && !(p->flags & ~(TCP_ACK | TCP_PSH)) && size <= room &&
	       (p->has_ts || !(sh->flags & DP_SH_TS)) && skb->gso_segs < 65535;
}

/* Stream bytes from `from` on into the store. Chunks taken; -1: the store is full. */
DP_GLOBAL int capture_store(struct __sk_buff *skb, const struct pkt *p, __u32 slot, __u32 gen,
			    __u32 from)
{
	struct store_write w = {.skb = skb, .slot = slot, .gen = gen, .seq = from};
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_ledger *l;

	if (!p || !sh)
		return -1;
	l = ledger_cell(sh->key.mapping, sh->key.target);
	if (!l)
		return -1;
	w.offset = p->offset + (from - p->seq);
	w.left = p->seq + p->payload - from;
	if (!store_put(&w)) {
		l->chunks += w.chunks;
		return w.chunks;
	}
	/* Whole chunks only: the first may hold bytes that count. */
	l->chunks += w.chunks;
	if (w.chunks)
		l->chunks -= store_free(slot, gen, from + DP_CHUNK - 1, w.seq + DP_CHUNK);
	return -1;
}

/*
 * The flow has more than its shadow may hold. The shadow ends, the target is told, and what did
 * not fit any more was observed and never taken.
 */
DP_GLOBAL int capture_overrun(struct __sk_buff *skb, const struct pkt *p, __u32 slot, __u32 gen,
			      __u32 why)
{
	struct order o = {.kind = DP_ORDER_SEGMENT, .slot = slot, .gen = gen};
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_flow_key key;
	struct dp_ledger *l;
	struct dp_flow *f;
	__u32 to, from;

	if (!p || !sh)
		return 0;
	/* Read before the break: after it the slot may be another flow's. */
	key = sh->key;
	l = ledger_cell(key.mapping, key.target);
	to = p->seq + p->payload;
	from = seq_max(p->seq, sh->end);
	o.a = sh->nxt;
	o.b = (__u32)(TCP_RST | TCP_ACK) << 16;
	if (!l || !shadow_break(slot, gen, why))
		return 0;
	if (seq_after(to, from)) {
		ledger_exclude(l, DP_EXCLUDED_backoff, to - from);
		f = bpf_map_lookup_elem(&flows, &key);
		if (f && f->slot == DP_NO_SLOT)
			f->next = to;
	}
	if (order_clone(skb, &o, 0))
		ledger_event(l, DP_EVENT_clone_failed);
	return 0;
}

/*
 * The shadow's flow leaves it: what it has taken is still delivered, then it closes by itself.
 * What lies beyond a hole is lost, as `why`. 1: done; the caller rebinds the flow.
 */
DP_GLOBAL int capture_let_go(struct __sk_buff *skb, __u32 slot, __u32 gen, __u32 why)
{
	struct order o = {.kind = DP_ORDER_WORK, .slot = slot, .gen = gen};
	__u64 now = bpf_ktime_get_coarse_ns();
	bool arm;
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_ledger *l;
	__u32 lost;

	if (!sh)
		return 0;
	bpf_spin_lock(&sh->lock);
	if (sh->gen != gen || !shadow_open(sh)) {
		bpf_spin_unlock(&sh->lock);
		return 0;
	}
	lost = shadow_pending_locked(sh);
	shadow_forget_ooo_locked(sh);
	lost -= shadow_pending_locked(sh);
	if (!(sh->flags & DP_SH_CLIENT_FIN) || seq_after(sh->fin, sh->end)) {
		sh->flags |= DP_SH_CLIENT_FIN;
		sh->fin = sh->end;
	}
	if (!sh->due_ns)
		shadow_restart_rto_locked(sh, now);
	arm = shadow_arm_locked(sh);
	bpf_spin_unlock(&sh->lock);
	if (arm)
		shadow_arm(slot);
	l = ledger_cell(sh->key.mapping, sh->key.target);
	ledger_lose(l, why, lost);
	if (order_clone(skb, &o, 0))
		ledger_event(l, DP_EVENT_clone_failed);
	return 1;
}

/* 0, or 1 + enum dp_lost: the shadow cannot go on, and capture_overrun() is to end it. The
 * caller calls that, not we: the stacks of nested calls add up to 512 bytes at most.
 */
DP_GLOBAL int capture_segment(struct __sk_buff *skb, const struct pkt *p, __u32 slot, __u32 gen)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct dp_shadow *sh = shadow_at(slot);
	enum capture_action act = ACT_NONE;
	bool ooo = false, waits = false, tidy = false, fresh;
	bool arm;
	__u32 from, to, floor, added = 0;
	struct dp_ledger *ledger;
	struct order o = {};
	int chunks = 0;

	if (!p || !sh || sh->gen != gen)
		return 0;
	ledger = ledger_cell(sh->key.mapping, sh->key.target);
	if (!ledger)
		return 0;
	to = p->seq + p->payload;

	/* As a writer, so that nobody gives away the chunks under our hands. */
	bpf_spin_lock(&sh->lock);
	if (sh->gen != gen || !shadow_open(sh)) {
		from = sh->gen == gen ? seq_max(p->seq, sh->end) : to;
		bpf_spin_unlock(&sh->lock);
		/* It ended between our look and this one. Only what is new was observed. */
		if (seq_after(to, from))
			ledger_exclude(ledger, DP_EXCLUDED_backoff, to - from);
		return 0;
	}
	from = seq_max(p->seq, sh->end);
	/* Nothing follows a FIN (RFC 9293, 3.10.4), once it is in its place. */
	fresh = p->payload && seq_after(to, from) &&
		!((sh->flags & DP_SH_CLIENT_FIN) && sh->fin == sh->end);
	if (fresh && to - sh->una > cfg.flow_cap) {
		bool far = seq_after(p->seq, sh->end);

		bpf_spin_unlock(&sh->lock);
		/* Out of order and out of every window, it is not the stream's. */
		return far ? 0 : 1 + DP_LOST_flow_cap;
	}
	if (fresh && sh->n_ooo && now - sh->hole_ns > DP_HOLE_NS) {
		bpf_spin_unlock(&sh->lock);
		return 1 + DP_LOST_client_gap;
	}
	sh->writers += fresh;
	bpf_spin_unlock(&sh->lock);

	if (fresh)
		chunks = capture_store(skb, p, slot, gen, from);

	bpf_spin_lock(&sh->lock);
	if (fresh)
		tidy = shadow_writer_done_locked(sh);
	if (!shadow_open(sh)) {
		floor = sh->floor;
		to = seq_max(to + DP_CHUNK, sh->top);
		bpf_spin_unlock(&sh->lock);
		if (fresh)
			ledger_exclude(ledger, DP_EXCLUDED_backoff, p->seq + p->payload - from);
		if (tidy)
			shadow_release(ledger, slot, gen, floor, to);
		return 0;
	}
	if (chunks < 0) {
		bpf_spin_unlock(&sh->lock);
		return 1 + DP_LOST_store_full;
	}
	sh->seen_ns = now;
	if (p->has_ts && seq_after(p->tsval, sh->ts_val))
		sh->ts_val = p->tsval;
	if (fresh) {
		bool hole = sh->n_ooo;

		ooo = seq_after(from, sh->end);
		added = extend_locked(sh, from, to);
		if (added == 0xffffffff) {
			bpf_spin_unlock(&sh->lock);
			return 1 + DP_LOST_client_gap;
		}
		sh->observed += added;
		sh->ack_last = p->ack;
		if (!hole || !ooo)
			sh->hole_ns = now;
		if (p->flags & TCP_PSH)
			sh->flags |= DP_SH_PUSH;
		else
			sh->flags &= ~DP_SH_PUSH;
		/* A FIN that was seen ahead of bytes which go on behind it was not the client's. */
		if ((sh->flags & DP_SH_CLIENT_FIN) && seq_after(sh->end, sh->fin))
			sh->flags &= ~DP_SH_CLIENT_FIN;
	}
	/* The FIN that continues the stream is the one; another may still turn out to be it. */
	if ((p->flags & TCP_FIN) &&
	    (to == sh->end || (!(sh->flags & DP_SH_CLIENT_FIN) && seq_after(to, sh->end) &&
			       to - sh->end <= cfg.flow_cap))) {
		sh->flags |= DP_SH_CLIENT_FIN;
		sh->fin = to;
	}
	/*
	 * A RST of the client becomes a FIN behind the last byte: a target that is reset while
	 * it still works on what it acknowledged would drop it, and the source did not.
	 */
	if ((p->flags & TCP_RST) && p->seq == sh->end && !(sh->flags & DP_SH_CLIENT_FIN)) {
		sh->flags |= DP_SH_CLIENT_FIN | DP_SH_CLIENT_RST;
		sh->fin = sh->end;
	}

	if (sh->state == DP_ESTABLISHED || sh->state == DP_CLOSE_WAIT) {
		if (added == p->payload && added && sh->nxt == p->seq && sh->end == to &&
		    (__s32)(shadow_window_end(sh) - to) >= 0 &&
		    !(sh->flags & (DP_SH_RECOVERY | DP_SH_DUE)) && copyable(skb, p, sh)) {
			act = ACT_COPY;
			if (sh->una == sh->nxt || !sh->due_ns)
				shadow_restart_rto_locked(sh, now);
			sh->nxt = to;
			sh->flags &= ~DP_SH_ACK_DUE;
			if (!(sh->flags & DP_SH_TIMED)) {
				sh->flags |= DP_SH_TIMED;
				sh->timed_seq = to;
				sh->timed_ns = now;
			}
			o.a = sh->rcv_nxt;
			o.b = sh->flags & DP_SH_TS ? sh->ts_recent : 0;
			o.c = sh->ts_val;
		} else if (shadow_may_send(sh) || (sh->flags & DP_SH_DUE)) {
			/* A large carrier costs a copy of itself: the target's next
			 * acknowledgement, if one is to come, is a better one.
			 */
			if (skb->len <= DP_LARGE || sh->una == sh->nxt || (sh->flags & DP_SH_DUE))
				act = ACT_WORK;
			waits = added && (__s32)(shadow_window_end(sh) - to) < 0;
		} else {
			waits = added && sh->end != sh->nxt;
		}
		if (!sh->due_ns && (waits || act == ACT_WORK)) /* persist, or a clone that fails */
			shadow_restart_rto_locked(sh, now);
	} else if (sh->flags & DP_SH_DUE) {
		act = ACT_WORK;
	}
	arm = shadow_arm_locked(sh);
	floor = sh->floor;
	bpf_spin_unlock(&sh->lock);

	ledger_accept(ledger, added);
	/* Another CPU was faster with the same bytes; do not resurrect freed chunks. */
	if (chunks > 0)
		ledger->chunks -= store_free(slot, gen, from, seq_min(to, floor));
	if (arm)
		shadow_arm(slot);
	if (ooo && added)
		ledger->event[DP_EVENT_out_of_order]++;
	if (p->payload && !added)
		ledger->event[DP_EVENT_client_retransmit]++;
	if (waits)
		ledger->event[DP_EVENT_window_full]++;
	if (act == ACT_NONE)
		return 0;
	o.kind = act == ACT_COPY ? DP_ORDER_COPY : DP_ORDER_WORK;
	o.slot = slot;
	o.gen = gen;
	if (order_clone(skb, &o, act == ACT_COPY ? cfg.clone_flags : 0))
		ledger_event(ledger, DP_EVENT_clone_failed);
	else if (act == ACT_COPY)
		ledger->copied += skb->gso_segs ?: 1;
	return 0;
}

/* Bytes of a flow without a shadow: each is observed once and excluded. */
static __always_inline void capture_excluded(const struct pkt *p, const struct dp_flow_key *key,
					     struct dp_ledger *l, struct dp_flow *flow)
{
	__u32 to = p->seq + p->payload, n = p->payload;

	if (flow->seen) {
		__u32 gap = to - flow->next;

		if ((__s32)gap <= 0)
			n = 0;
		else if (n > gap)
			n = gap;
	}
	if (n) {
		ledger_exclude(l, flow->excluded, n);
		flow->next = to;
		flow->ack = p->ack;
		flow->push = !!(p->flags & TCP_PSH);
		flow->seen = 1;
		flow->evidence = 1;
	}
	flow->seen_ns = bpf_ktime_get_coarse_ns();
	if ((p->flags & (TCP_FIN | TCP_RST)) && !bpf_map_delete_elem(&flows, key))
		l->waiting--;
}

/* Over the ceiling: the whole flow leaves. It may join again when the pause is over. */
static __always_inline void capture_shed(struct __sk_buff *skb, struct dp_flow *flow,
					 struct dp_ledger *l)
{
	struct dp_shadow *sh = shadow_at(flow->slot);
	__u32 next, ack, push;

	if (!sh)
		return;
	next = sh->end;
	ack = sh->ack_last;
	push = sh->flags & DP_SH_PUSH;
	if (!capture_let_go(skb, flow->slot, flow->gen, DP_LOST_client_gap))
		return;
	flow->slot = DP_NO_SLOT;
	flow->excluded = DP_EXCLUDED_shed;
	flow->next = next;
	flow->ack = ack;
	flow->seen = 1;
	flow->evidence = 1;
	flow->push = !!push;
	flow->turns = 0;
	flow->retry_ns = bpf_ktime_get_coarse_ns() + 1000 * NSEC_PER_MSEC;
	flow->retry_ns += bpf_get_prandom_u32() % 1000 * NSEC_PER_MSEC;
	l->waiting++;
}

static __noinline int note_syn(struct __sk_buff *skb, const struct pkt *p,
			       const struct dp_flow_key *key)
{
	struct tcp_options opt;
	struct dp_syn syn = {};

	parse_options(skb, p, &opt);
	syn.isn = p->seq;
	syn.tsval = opt.tsval;
	syn.mss = opt.mss;
	syn.wscale = opt.wscale;
	syn.flags = opt.flags;
	syn.auth = opt.auth;
	syn.data = p->payload != 0;
	syn.ttl = p->ttl;
	bpf_map_update_elem(&syns, key, &syn, BPF_ANY);
	return 0;
}

/* On a server only what a socket of it takes; a client host's own packets need no proof. */
static __always_inline bool may_begin(struct __sk_buff *skb, const struct pkt *p,
				      const struct dp_mapping *m)
{
	return (m->flags & (DP_MAP_ANY_HOST | DP_MAP_EGRESS)) || socket_takes(skb, p);
}

/* A packet far from where the flow's stream stands: has the client reused its port? */
static __always_inline bool new_incarnation(const struct pkt *p, const struct dp_flow_key *key,
					    const struct dp_flow *flow)
{
	struct dp_shadow *sh = NULL;
	struct dp_syn *syn;

	if (flow->slot == DP_NO_SLOT) {
		if (flow->seen && p->seq == flow->next)
			return false;
	} else {
		sh = shadow_at(flow->slot);
		if (!sh)
			return false;
		if (p->seq == sh->end || (!(sh->flags & DP_SH_CLIENT_FIN) &&
					  p->seq - sh->una <= cfg.flow_cap && p->payload))
			return false;
	}
	syn = bpf_map_lookup_elem(&syns, key);
	if (!syn || syn->isn + 1 != p->seq || (p->flags & TCP_RST))
		return false;
	/* A SYN that came twice is not a second connection. */
	return !sh || syn->isn != sh->isn;
}

/*
 * `which` tells mapping and target: index of the target | index of the mapping << 8 | offset of
 * the port in the mapping's range << 16.
 */
static __always_inline void flow_key(struct dp_flow_key *key, const struct pkt *p, __u32 which)
{
	key->client = addr_v4(p->saddr);
	key->server = addr_v4(p->daddr);
	key->client_port = p->sport;
	key->server_port = p->dport;
	key->proto = IPPROTO_TCP;
	key->mapping = (which >> 8) & 0xff;
	key->target = which & 0xff;
}

/* What capture_find and capture_birth return: slot | gen << 32, or one of these. */
#define FIND_DONE  (-1ll)
#define FIND_BIRTH (-2ll)

static __always_inline __s64 flow_found(const struct dp_flow *flow)
{
	return ((__u64)(flow->gen & 0x7fffffff) << 32) | flow->slot;
}

/* The flow of the packet. Done: it has no shadow and is accounted for. */
DP_GLOBAL long capture_find(struct __sk_buff *skb, const struct pkt *p, __u32 which)
{
	__u32 t = which & 0xff, idx = (which >> 8) & 0xff, zero = 0;
	struct dp_flow_key key = {};
	struct dp_target *target;
	struct dp_control *c;
	struct dp_flow *flow;
	struct dp_mapping *m;
	struct dp_ledger *l;

	m = bpf_map_lookup_elem(&mappings, &idx);
	l = ledger_cell(idx, t);
	if (!p || !m || !l || t >= DP_MAX_TARGETS)
		return FIND_DONE;
	target = target_at(m, t);
	/* What goes to the target itself is a client's own business, or our copy. */
	if (p->daddr == target->address.w[3] && p->dport == bpf_htons(target->port + (which >> 16)))
		return FIND_DONE;
	l->captured += skb->gso_segs ?: 1;
	flow_key(&key, p, which);
	if ((p->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		note_syn(skb, p, &key);
		return FIND_DONE;
	}
	/* RFC 9293, 3.10.7.4: a segment of an open connection has ACK, and no SYN. */
	if ((p->flags & TCP_SYN) || !(p->flags & (TCP_ACK | TCP_RST)))
		return FIND_DONE;
	c = bpf_map_lookup_elem(&control, &zero);
	if (c && c->paused) {
		ledger_exclude(l, DP_EXCLUDED_paused, p->payload);
		return FIND_DONE;
	}
	flow = bpf_map_lookup_elem(&flows, &key);
	if (flow && new_incarnation(p, &key, flow) && may_begin(skb, p, m)) {
		/* The former connection drains on its own; its flow's place is the new one's. */
		__u32 slot = flow->slot, gen = flow->gen;

		if (!bpf_map_delete_elem(&flows, &key) && slot == DP_NO_SLOT)
			l->waiting--;
		if (slot != DP_NO_SLOT)
			capture_let_go(skb, slot, gen, DP_LOST_superseded);
		flow = NULL;
	}
	if (!flow) {
		if (p->saddr == target->address.w[3])
			ledger_exclude(l, DP_EXCLUDED_loop, p->payload);
		else if (p->ttl <= 1)
			ledger_exclude(l, DP_EXCLUDED_hops, p->payload);
		else
			return FIND_BIRTH;
		return FIND_DONE;
	}
	if (flow->slot == DP_NO_SLOT) {
		if (flow->excluded != DP_EXCLUDED_tcp_auth && !(m->flags & DP_MAP_JOIN_NEVER) &&
		    p->ttl > 1 && join_boundary(skb, p, flow, m->application, pace_of(idx, t)) &&
		    (!flow->retry_ns || bpf_ktime_get_coarse_ns() >= flow->retry_ns))
			return FIND_BIRTH;
		capture_excluded(p, &key, l, flow);
		return FIND_DONE;
	}
	if (m->max_bps && p->payload) {
		struct dp_pace *pace = pace_of(idx, t);

		if (pace && pace_over(m, pace, bpf_ktime_get_coarse_ns(), p->payload)) {
			capture_shed(skb, flow, l);
			if (flow->slot == DP_NO_SLOT) {
				capture_excluded(p, &key, l, flow);
				return FIND_DONE;
			}
		}
	}
	return flow_found(flow);
}

/* Slot and shadow for the flow, and a SYN on its way. Slot, or -1 - enum dp_excluded, or
 * -1 - OPEN_RACE.
 */
static __always_inline int shadow_birth(struct __sk_buff *skb, const struct dp_flow_key *key,
					struct flow_birth *b, struct dp_ledger *l)
{
	struct order o = {.kind = DP_ORDER_SEGMENT, .a = b->isn, .b = TCP_SYN << 16};
	struct dp_shadow *sh;
	int slot, why;

	if (!pace_may_open(key->mapping, key->target))
		return -1 - DP_EXCLUDED_embryonic;
	slot = claim_port(skb, key->mapping * DP_MAX_TARGETS + key->target, b->target_port);
	if (slot < 0)
		return -1 - DP_EXCLUDED_ports_exhausted;
	b->slot = slot;
	why = flow_open(skb, key, b);
	if (why)
		return why == OPEN_RACE ? -1 - OPEN_RACE : -why;
	sh = shadow_at(slot);
	if (!sh)
		return -1 - OPEN_RACE;
	o.slot = slot;
	o.gen = sh->gen;
	if (order_clone(skb, &o, 0))
		ledger_event(l, DP_EVENT_clone_failed);
	return slot;
}

/* A flow that is not known yet, starts anew, or may join. */
DP_GLOBAL long capture_birth(struct __sk_buff *skb, const struct pkt *p, __u32 which)
{
	__u32 t = which & 0xff, idx = (which >> 8) & 0xff;
	struct dp_flow flow = {.slot = DP_NO_SLOT, .excluded = DP_EXCLUDED_not_joined};
	struct dp_flow_key key = {};
	struct flow_birth b = {};
	struct dp_mapping *m;
	struct dp_ledger *l;
	struct dp_flow *f;
	struct dp_syn *syn;
	bool open = false;
	int slot;

	m = bpf_map_lookup_elem(&mappings, &idx);
	l = ledger_cell(idx, t);
	if (!p || !m || !l || t >= DP_MAX_TARGETS)
		return FIND_DONE;
	flow_key(&key, p, which);
	b.ttl = p->ttl - 1;
	b.target_port = bpf_htons(target_at(m, t)->port + (which >> 16));
	f = bpf_map_lookup_elem(&flows, &key);
	syn = f ? NULL : bpf_map_lookup_elem(&syns, &key);
	if (syn && syn->auth) {
		flow.excluded = DP_EXCLUDED_tcp_auth;
	} else if (syn && !syn->data && !(p->flags & TCP_RST) &&
		   p->seq - (syn->isn + 1) <= cfg.flow_cap) {
		/* Also when the first segment comes second: it will fill the hole. */
		b.isn = syn->isn;
		b.tsval = syn->tsval;
		b.flags = syn->flags;
		b.wscale = syn->wscale;
		open = true;
	} else if (m->flags & DP_MAP_JOIN_NEVER) {
		flow.excluded = DP_EXCLUDED_join_never;
	} else if (f ||
		   (p->payload && join_boundary(skb, p, &flow, m->application, pace_of(idx, t)))) {
		/* Design, 4.9: a SYN of our own, right before the request. */
		b.isn = p->seq - 1;
		b.tsval = p->tsval;
		b.flags = DP_SH_JOINED | DP_SH_SACK | DP_SH_WSCALE | (p->has_ts ? DP_SH_TS : 0);
		b.wscale = DP_JOIN_WSCALE;
		b.breaks = f ? f->breaks : 0;
		open = true;
	}
	/* What the source does not take is not part of any stream, and is not observed. */
	if ((open || !f) && p->payload && !may_begin(skb, p, m)) {
		ledger_event(l, DP_EVENT_no_socket);
		return FIND_DONE;
	}
	if (open && !p->payload && !may_begin(skb, p, m))
		return FIND_DONE;
	if (open) {
		slot = shadow_birth(skb, &key, &b, l);
		if (slot >= 0 && !(b.flags & DP_SH_JOINED))
			bpf_map_delete_elem(&syns, &key);
		if (slot < 0 && slot != -1 - OPEN_RACE)
			flow.excluded = -1 - slot;
		f = bpf_map_lookup_elem(&flows, &key);
		if (f && f->slot != DP_NO_SLOT)
			return flow_found(f);
		if (f && slot < 0 && slot != -1 - OPEN_RACE)
			f->excluded = flow.excluded;
	}
	if (!p->payload)
		return FIND_DONE;
	if (!f) {
		if (!bpf_map_update_elem(&flows, &key, &flow, BPF_NOEXIST))
			l->waiting++;
		f = bpf_map_lookup_elem(&flows, &key);
	}
	if (!f) {
		ledger_exclude(l, DP_EXCLUDED_table_full, p->payload);
		bpf_map_delete_elem(&syns, &key); /* its first bytes are gone: it may only join */
	} else if (f->slot != DP_NO_SLOT) {
		return flow_found(f);
	} else {
		capture_excluded(p, &key, l, f);
	}
	return FIND_DONE;
}

/* One packet for one target. */
static __always_inline void capture_target(struct __sk_buff *skb, const struct pkt *p, __u32 which)
{
	__s64 found = capture_find(skb, p, which);
	__u32 slot, gen;
	int why;

	if (found == FIND_BIRTH)
		found = capture_birth(skb, p, which);
	if (found < 0)
		return;
	slot = found;
	gen = found >> 32;
	why = capture_segment(skb, p, slot, gen);
	if (why > 0)
		capture_overrun(skb, p, slot, gen, why - 1);
}

static __always_inline int capture(struct __sk_buff *skb, __u8 direction)
{
	struct dp_port_key pk = {};
	struct pkt p = {};
	enum pkt_verdict v;
	__u32 port, *bits, idx;
	struct dp_port_val *pv;
	struct dp_mapping *m;

	v = parse(skb, &p);
	if (v == PKT_NONE)
		return TC_ACT_UNSPEC;
	port = bpf_ntohs(p.dport);
	bits = bpf_map_lookup_elem(&ports, &port);
	if (!bits || !(*bits & DP_PORT_TCP))
		return TC_ACT_UNSPEC;
	pk.ifindex = skb->ifindex;
	pk.port = port;
	pk.proto = IPPROTO_TCP;
	pk.direction = direction;
	pv = bpf_map_lookup_elem(&port_map, &pk);
	if (!pv)
		return TC_ACT_UNSPEC;
	idx = pv->mapping;
	m = bpf_map_lookup_elem(&mappings, &idx);
	if (!m)
		return TC_ACT_UNSPEC;
	if (direction == DP_DIR_INGRESS && skb->pkt_type == PACKET_OTHERHOST &&
	    !(m->flags & DP_MAP_ANY_HOST))
		return TC_ACT_UNSPEC;
	/* What goes to a target itself is a client's own business, or a copy of ours on its way. */
	for (__u32 t = 0; t < DP_MAX_TARGETS; t++) {
		if (t < m->n_targets && p.daddr == m->target[t].address.w[3] &&
		    port - m->target[t].port <= m->ports)
			return TC_ACT_UNSPEC;
	}
	if (v == PKT_TCP) {
		if (p.payload && !checksum_ok(skb, &p)) {
			ledger_event(ledger_cell(idx, 0), DP_EVENT_bad_checksum);
			return TC_ACT_UNSPEC;
		}
		if (!(p.flags & TCP_SYN))
			parse_timestamp(skb, &p);
	}
	for (__u32 t = 0; t < DP_MAX_TARGETS; t++) {
		if (t >= m->n_targets)
			break;
		if (v == PKT_TCP)
			capture_target(skb, &p, t | idx << 8 | (__u32)pv->offset << 16);
		else if (v == PKT_FRAGMENT)
			ledger_exclude(ledger_cell(idx, t), DP_EXCLUDED_fragment, p.payload);
		else if (v == PKT_IPOPTIONS)
			ledger_exclude(ledger_cell(idx, t), DP_EXCLUDED_ip_options, p.payload);
		else
			ledger_event(ledger_cell(idx, t), DP_EVENT_malformed);
	}
	return TC_ACT_UNSPEC;
}

SEC("tc")
int doppel_ingress(struct __sk_buff *skb)
{
	return capture(skb, DP_DIR_INGRESS);
}

SEC("tc")
int doppel_egress(struct __sk_buff *skb)
{
	return capture(skb, DP_DIR_EGRESS);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
