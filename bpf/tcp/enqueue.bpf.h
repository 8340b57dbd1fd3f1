/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A captured segment becomes part of the shadow's stream, and a copy if it may be one. Three steps
 * under the lock: claim (is it of this stream, and is there room?), account (it is part of the
 * stream now), decide (what is sent at once?). Its payload is stored between the first two, without
 * the lock, at its own place in the store.
 */
#ifndef DOPPEL_ENQUEUE_BPF_H
#define DOPPEL_ENQUEUE_BPF_H

#include "flow/flow.bpf.h"
#include "packet/txreq.bpf.h"
#include "store.bpf.h"
#include "tcp/finish.bpf.h"
#include "tcp/timer.bpf.h"

/* A hole this old will not be filled: the source had it otherwise. */
#define HOLE_NS 5000000000ull

#define OOO_FULL 0xffffffff /* extend_locked(): more holes than can be remembered */

/* A segment on its way through the three steps. */
struct arrival {
	__u64 now;
	__u32 gen;
	__u32 from; /* [from, to): what may be new of it */
	__u32 to;
	__u32 added;  /* bytes that were new */
	__u32 reason; /* VERDICT_BREAK: enum dp_lost */
	int chunks;   /* taken from the store; -1: it is full */
	bool fresh;   /* [from, to) is wanted */
	bool ooo;     /* it came out of order */
	bool waits;   /* for the target's window, or for bytes before it */
	bool last_ref;
	bool watch;
	__u32 store_start;
	__u32 store_end;
	struct txreq req; /* TXREQ_NONE: nothing is sent now */
};

/* Extends the captured stream by [from, to). Returns how many bytes are new, or OOO_FULL. */
static __always_inline __u32 extend_locked(struct dp_shadow *sh, __u32 from, __u32 to)
{
	bool in_order = !seq_after(from, sh->tcp.end);
	__u32 added, start, end;

	if (in_order) {
		if (!seq_after(to, sh->tcp.end))
			return 0;
		from = sh->tcp.end;
		if (!sh->tcp.n_ooo) {
			sh->tcp.end = to;
			return to - from;
		}
	}
	added = range_take(sh->tcp.ooo, DP_MAX_OOO, &sh->tcp.n_ooo, from, to, &start, &end);
	if (in_order)
		sh->tcp.end = end;
	else if (!range_put(sh->tcp.ooo, DP_MAX_OOO, &sh->tcp.n_ooo, start, end))
		return OOO_FULL;
	return added;
}

/* May this very packet become the segment that the shadow sends next? */
static __always_inline bool copyable(struct __sk_buff *skb, const struct pkt *p,
				     const struct dp_shadow *sh)
{
	__u32 size = (skb->gso_size ?: p->payload) + p->optlen;
	__u32 room = sh->tcp.mss + (sh->tcp.flags & DP_SH_TS ? TS_LEN : 0);

	/* Bytes behind the packet, such as Ethernet's padding, would be in the checksum that a
	 * device makes of a CHECKSUM_PARTIAL copy (skb_checksum_help, net/core/dev.c).
	 */
	return p->plain && !(p->flags & ~(TCP_ACK | TCP_PSH)) && size <= room &&
	       p->data_off + p->payload == skb->len && (p->has_ts || !(sh->tcp.flags & DP_SH_TS)) &&
	       skb->gso_segs < 65535;
}

/* Stream bytes from `from` on into the store. Chunks taken; -1: the store is full. */
GLOBAL int enqueue_store(struct __sk_buff *skb, const struct pkt *p, __u32 slot, __u32 gen,
			 __u32 from)
{
	struct store_write w = {.skb = skb, .slot = slot, .gen = gen, .seq = from};
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_ledger *l;

	if (!p || !sh)
		return -1;
	w.sh = sh;
	l = shadow_ledger(sh);
	if (!l)
		return -1;
	w.offset = p->data_off + (from - p->seq);
	w.left = p->seq + p->payload - from;
	if (!store_put(&w)) {
		l->chunks += w.chunks;
		return w.chunks;
	}
	l->chunks += w.chunks; /* the caller ends the shadow, which frees them */
	return -1;
}

/*
 * Is the segment of this stream, and is there room for it? VERDICT_SHADOW: go on; what is fresh
 * holds a reference then, so that nobody frees the chunks that it is written to.
 */
static __always_inline enum verdict_kind claim_locked(struct dp_shadow *sh, const struct pkt *p,
						      struct arrival *a)
{
	if (sh->gen != a->gen || !shadow_is_open(sh))
		return VERDICT_GONE;
	a->from = seq_max(p->seq, sh->tcp.end);
	/* Nothing follows a FIN (RFC 9293, 3.10.4), once it is in its place. */
	a->fresh = p->payload && seq_after(a->to, a->from) &&
		   !((sh->tcp.flags & DP_SH_CLIENT_FIN) && sh->tcp.fin == sh->tcp.end);
	if (!a->fresh)
		return VERDICT_SHADOW;
	if (a->to - sh->tcp.una > cfg.flow_cap) {
		if (a->to - sh->tcp.end > DP_MAX_CAP) /* no window is so wide: not the stream's */
			return VERDICT_DONE;
		a->reason = DP_LOST_flow_cap;
		return seq_after(p->seq, sh->tcp.end) ? VERDICT_FAR : VERDICT_BREAK;
	}
	/* Signed: another CPU may have set it a tick later. */
	if (sh->tcp.n_ooo && (__s64)(a->now - sh->tcp.hole_ns) > (__s64)HOLE_NS) {
		a->reason = DP_LOST_client_gap;
		return VERDICT_BREAK;
	}
	sh->tcp.refs++;
	sh->tcp.store_end = seq_max(sh->tcp.store_end, a->to);
	return VERDICT_SHADOW;
}

/* The client's FIN, or its RST. */
static __always_inline void client_closes_locked(struct dp_shadow *sh, const struct pkt *p,
						 __u32 to)
{
	/* The FIN that continues the stream is the one; another may still turn out to be it. */
	if ((p->flags & TCP_FIN) && (to == sh->tcp.end || (!(sh->tcp.flags & DP_SH_CLIENT_FIN) &&
							   seq_after(to, sh->tcp.end) &&
							   to - sh->tcp.end <= cfg.flow_cap))) {
		sh->tcp.flags |= DP_SH_CLIENT_FIN;
		sh->tcp.fin = to;
	}
	/*
	 * A RST of the client becomes a FIN behind the last byte: a target that is reset while
	 * it still works on what it acknowledged would drop it, and the source did not.
	 */
	if ((p->flags & TCP_RST) && p->seq == sh->tcp.end && !(sh->tcp.flags & DP_SH_CLIENT_FIN)) {
		sh->tcp.flags |= DP_SH_CLIENT_FIN | DP_SH_CLIENT_RST;
		sh->tcp.fin = sh->tcp.end;
	}
}

/* The segment becomes part of the stream. VERDICT_SHADOW: go on. */
static __always_inline enum verdict_kind account_locked(struct dp_shadow *sh, const struct pkt *p,
							struct arrival *a)
{
	__u32 end;
	__u8 holes;

	if (!shadow_is_open(sh))
		return VERDICT_GONE;
	/* Its flow left it meanwhile: the stream has ended before this. */
	if (a->fresh && (sh->tcp.flags & DP_SH_CLIENT_FIN) && sh->tcp.fin == sh->tcp.end)
		return VERDICT_GONE;
	if (a->chunks < 0) {
		a->reason = DP_LOST_store_full;
		return VERDICT_BREAK;
	}
	sh->tcp.seen_ns = a->now;
	if (p->has_ts && seq_after(p->tsval, sh->tcp.ts_val))
		sh->tcp.ts_val = p->tsval;
	if (a->fresh) {
		holes = sh->tcp.n_ooo;
		end = sh->tcp.end;
		a->added = extend_locked(sh, a->from, a->to);
		if (a->added == OOO_FULL) {
			a->reason = DP_LOST_client_gap;
			return VERDICT_BREAK;
		}
		a->ooo = seq_after(a->from, end);
		sh->tcp.observed += a->added;
		sh->tcp.ack_last = p->ack;
		if (!holes || !a->ooo)
			sh->tcp.hole_ns = a->now;
		if (p->flags & TCP_PSH)
			sh->tcp.flags |= DP_SH_PUSH;
		else
			sh->tcp.flags &= ~DP_SH_PUSH;
		/* Data beyond an out-of-order FIN proves the FIN forged: forget it. */
		if ((sh->tcp.flags & DP_SH_CLIENT_FIN) && seq_after(sh->tcp.end, sh->tcp.fin))
			sh->tcp.flags &= ~DP_SH_CLIENT_FIN;
	}
	client_closes_locked(sh, p, a->to);
	return VERDICT_SHADOW;
}

/* The packet itself is what is sent next: after this call it counts as sent. */
static __always_inline void send_copy_locked(struct dp_shadow *sh, struct arrival *a)
{
	if (sh->tcp.una == sh->tcp.nxt || !sh->tcp.due_ns)
		shadow_restart_rto_locked(sh, a->now);
	sh->tcp.nxt = a->to;
	sh->tcp.flags &= ~DP_SH_ACK_DUE;
	if (!(sh->tcp.flags & DP_SH_TIMED)) {
		sh->tcp.flags |= DP_SH_TIMED;
		sh->tcp.timed_seq = a->to;
		sh->tcp.timed_ns = a->now;
	}
	a->req.kind = TXREQ_COPY;
	a->req.copy.ack = sh->tcp.rcv_nxt;
	a->req.copy.tsecr = sh->tcp.flags & DP_SH_TS ? sh->tcp.ts_recent : 0;
	a->req.copy.tsval = sh->tcp.ts_val;
}

/* What is sent at once: this packet, what deliver finds to send, or nothing yet. */
static __always_inline void decide_locked(struct __sk_buff *skb, struct dp_shadow *sh,
					  const struct pkt *p, struct arrival *a)
{
	if (sh->tcp.state != DP_ESTABLISHED && sh->tcp.state != DP_CLOSE_WAIT) {
		if (sh->tcp.flags & DP_SH_DUE)
			a->req.kind = TXREQ_WORK;
		return;
	}
	if (a->added == p->payload && a->added && sh->tcp.nxt == p->seq && sh->tcp.end == a->to &&
	    (__s32)(shadow_window_end(sh) - a->to) >= 0 &&
	    !(sh->tcp.flags & (DP_SH_RECOVERY | DP_SH_DUE)) && copyable(skb, p, sh)) {
		send_copy_locked(sh, a);
	} else if (shadow_may_send(sh) || (sh->tcp.flags & DP_SH_DUE)) {
		/* A large template costs a copy of itself: the target's next acknowledgement, if
		 * one is to come, is a better one.
		 */
		if (skb->len <= TEMPLATE_LARGE || sh->tcp.una == sh->tcp.nxt ||
		    (sh->tcp.flags & DP_SH_DUE))
			a->req.kind = TXREQ_WORK;
		a->waits = a->added && (__s32)(shadow_window_end(sh) - a->to) < 0;
	} else {
		a->waits = a->added && sh->tcp.end != sh->tcp.nxt;
	}
	/* Persist, or a clone that fails. */
	if (!sh->tcp.due_ns && (a->waits || a->req.kind == TXREQ_WORK))
		shadow_restart_rto_locked(sh, a->now);
}

static __always_inline enum verdict_kind enqueue_claim(struct dp_shadow *sh, const struct pkt *p,
						       struct arrival *a)
{
	enum verdict_kind kind;

	bpf_spin_lock(&sh->lock);
	kind = claim_locked(sh, p, a);
	bpf_spin_unlock(&sh->lock);
	return kind;
}

static __always_inline enum verdict_kind enqueue_commit(struct __sk_buff *skb, struct dp_shadow *sh,
							const struct pkt *p, struct arrival *a)
{
	enum verdict_kind kind;

	bpf_spin_lock(&sh->lock);
	if (a->fresh)
		a->last_ref = shadow_put_locked(sh);
	kind = account_locked(sh, p, a);
	if (kind == VERDICT_SHADOW) {
		decide_locked(skb, sh, p, a);
		a->watch = timer_wanted_locked(sh);
	}
	a->store_start = sh->tcp.store_start;
	a->store_end = sh->tcp.store_end;
	bpf_spin_unlock(&sh->lock);
	return kind;
}

static __always_inline void enqueue_count(struct dp_ledger *l, const struct pkt *p,
					  const struct arrival *a)
{
	ledger_accept(l, a->added);
	if (a->ooo && a->added)
		l->event[DP_EVENT_out_of_order]++;
	if (p->payload && !a->added)
		l->event[DP_EVENT_client_retransmit]++;
	if (a->waits)
		l->event[DP_EVENT_window_full]++;
}

/*
 * The segment for the shadow that *v names. v->kind then: DONE; or what is left to do, which the
 * caller does, because the stacks of nested calls add up to 512 bytes at most: GONE, FAR, or BREAK
 * with its reason.
 */
GLOBAL int enqueue(struct __sk_buff *skb, const struct pkt *p, struct verdict *v)
{
	enum verdict_kind kind;
	struct arrival a = {};
	struct dp_shadow *sh;
	struct dp_ledger *l;

	if (!p || !v)
		return 0;
	v->kind = VERDICT_GONE; /* the flow lost its shadow between two looks */
	sh = shadow_at(v->slot);
	if (!sh)
		return 0;
	v->kind = VERDICT_DONE;
	l = shadow_ledger(sh);
	if (!l)
		return 0;
	a.now = bpf_ktime_get_coarse_ns();
	a.gen = v->gen;
	a.to = p->seq + p->payload;
	kind = enqueue_claim(sh, p, &a);
	if (kind != VERDICT_SHADOW) {
		v->kind = kind;
		v->reason = a.reason;
		return 0;
	}
	if (a.fresh)
		a.chunks = enqueue_store(skb, p, v->slot, a.gen, a.from);
	kind = enqueue_commit(skb, sh, p, &a);
	if (kind != VERDICT_SHADOW) {
		if (kind == VERDICT_GONE && a.last_ref)
			shadow_release(l, v->slot, a.gen, a.store_start, a.store_end);
		v->kind = kind;
		v->reason = a.reason;
		return 0;
	}
	enqueue_count(l, p, &a);
	if (a.watch)
		timer_watch(v->slot);
	if (a.req.kind == TXREQ_NONE)
		return 0;
	a.req.slot = v->slot;
	a.req.gen = a.gen;
	if (txreq_clone(skb, &a.req, a.req.kind == TXREQ_COPY ? cfg.clone_flags : 0))
		ledger_event(l, DP_EVENT_clone_failed);
	else if (a.req.kind == TXREQ_COPY)
		l->copied += skb->gso_segs ?: 1;
	return 0;
}

#endif
