/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Taking: a captured segment becomes part of the shadow's stream, and a copy if it may be one. */
#ifndef DOPPEL_TAKE_BPF_H
#define DOPPEL_TAKE_BPF_H

#include "packet/txreq.bpf.h"
#include "tcp/shadow.bpf.h"

#define HOLE_NS                                                                                    \
	5000000000ull /* a hole this old will not be filled: the source had it otherwise           \
		       */

enum capture_action {
	ACT_NONE = 0,
	ACT_COPY,
	ACT_WORK,
};

/* Extends the captured stream by [from, to). Returns how many bytes are new; 0xffffffff: there
 * are more holes than can be remembered.
 */
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
		return 0xffffffff;
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
	       p->offset + p->payload == skb->len && (p->has_ts || !(sh->tcp.flags & DP_SH_TS)) &&
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
	l = ledger_cell(sh->ep.key.mapping, sh->ep.key.target);
	if (!l)
		return -1;
	w.offset = p->offset + (from - p->seq);
	w.left = p->seq + p->payload - from;
	if (!store_put(&w)) {
		l->chunks += w.chunks;
		return w.chunks;
	}
	l->chunks += w.chunks; /* freed with the shadow, which ends for this */
	return -1;
}

/* What enqueue() returns: what is left to do. Its caller does it, because the stacks of
 * nested calls add up to 512 bytes at most.
 */
enum taken {
	TAKEN = 0,
	TAKEN_BREAK =
		1, /* + enum dp_lost: the shadow cannot go on, flow_break_shadow() is to end it */
	TAKEN_GONE = 254, /* the shadow has ended meanwhile */
	TAKEN_FAR = 255,  /* out of order, and beyond what the shadow may hold */
};

GLOBAL int enqueue(struct __sk_buff *skb, const struct pkt *p, __u32 slot, __u32 gen)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct dp_shadow *sh = shadow_at(slot);
	enum capture_action act = ACT_NONE;
	bool ooo = false, waits = false, last_ref = false, fresh;
	bool watch;
	__u32 from, to, store_start, store_end, added = 0;
	struct dp_ledger *ledger;
	struct txreq req = {.slot = slot, .gen = gen};
	int chunks = 0;

	if (!p || !sh) /* the flow lost its shadow between two looks */
		return TAKEN_GONE;
	ledger = ledger_cell(sh->ep.key.mapping, sh->ep.key.target);
	if (!ledger)
		return TAKEN;
	to = p->seq + p->payload;

	/* With a reference, so that nobody gives away the chunks under our hands. */
	bpf_spin_lock(&sh->lock);
	if (sh->gen != gen || !shadow_is_open(sh)) {
		bpf_spin_unlock(&sh->lock);
		return TAKEN_GONE;
	}
	from = seq_max(p->seq, sh->tcp.end);
	/* Nothing follows a FIN (RFC 9293, 3.10.4), once it is in its place. */
	fresh = p->payload && seq_after(to, from) &&
		!((sh->tcp.flags & DP_SH_CLIENT_FIN) && sh->tcp.fin == sh->tcp.end);
	if (fresh && to - sh->tcp.una > cfg.flow_cap) {
		bool far = seq_after(p->seq, sh->tcp.end), wild = to - sh->tcp.end > DP_MAX_CAP;

		bpf_spin_unlock(&sh->lock);
		if (wild) /* no window is so wide: it is not the stream's */
			return TAKEN;
		return far ? TAKEN_FAR : TAKEN_BREAK + DP_LOST_flow_cap;
	}
	/* Signed: another CPU may have set it a timer later. */
	if (fresh && sh->tcp.n_ooo && (__s64)(now - sh->tcp.hole_ns) > (__s64)HOLE_NS) {
		bpf_spin_unlock(&sh->lock);
		return TAKEN_BREAK + DP_LOST_client_gap;
	}
	if (fresh) {
		sh->tcp.refs++;
		sh->tcp.store_end = seq_max(sh->tcp.store_end, to);
	}
	bpf_spin_unlock(&sh->lock);

	if (fresh)
		chunks = enqueue_store(skb, p, slot, gen, from);

	bpf_spin_lock(&sh->lock);
	if (fresh)
		last_ref = shadow_put_locked(sh);
	if (!shadow_is_open(sh)) {
		store_start = sh->tcp.store_start;
		store_end = sh->tcp.store_end;
		bpf_spin_unlock(&sh->lock);
		if (last_ref)
			shadow_release(ledger, slot, gen, store_start, store_end);
		return TAKEN_GONE;
	}
	/* Its flow left it meanwhile: the stream has ended before this. */
	if (fresh && (sh->tcp.flags & DP_SH_CLIENT_FIN) && sh->tcp.fin == sh->tcp.end) {
		bpf_spin_unlock(&sh->lock);
		return TAKEN_GONE;
	}
	if (chunks < 0) {
		bpf_spin_unlock(&sh->lock);
		return TAKEN_BREAK + DP_LOST_store_full;
	}
	sh->tcp.seen_ns = now;
	if (p->has_ts && seq_after(p->tsval, sh->tcp.ts_val))
		sh->tcp.ts_val = p->tsval;
	if (fresh) {
		bool hole = sh->tcp.n_ooo;

		ooo = seq_after(from, sh->tcp.end);
		added = extend_locked(sh, from, to);
		if (added == 0xffffffff) {
			bpf_spin_unlock(&sh->lock);
			return TAKEN_BREAK + DP_LOST_client_gap;
		}
		sh->tcp.observed += added;
		sh->tcp.ack_last = p->ack;
		if (!hole || !ooo)
			sh->tcp.hole_ns = now;
		if (p->flags & TCP_PSH)
			sh->tcp.flags |= DP_SH_PUSH;
		else
			sh->tcp.flags &= ~DP_SH_PUSH;
		/* A FIN that was seen ahead of bytes which go on behind it was not the client's. */
		if ((sh->tcp.flags & DP_SH_CLIENT_FIN) && seq_after(sh->tcp.end, sh->tcp.fin))
			sh->tcp.flags &= ~DP_SH_CLIENT_FIN;
	}
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

	if (sh->tcp.state == DP_ESTABLISHED || sh->tcp.state == DP_CLOSE_WAIT) {
		if (added == p->payload && added && sh->tcp.nxt == p->seq && sh->tcp.end == to &&
		    (__s32)(shadow_window_end(sh) - to) >= 0 &&
		    !(sh->tcp.flags & (DP_SH_RECOVERY | DP_SH_DUE)) && copyable(skb, p, sh)) {
			act = ACT_COPY;
			if (sh->tcp.una == sh->tcp.nxt || !sh->tcp.due_ns)
				shadow_restart_rto_locked(sh, now);
			sh->tcp.nxt = to;
			sh->tcp.flags &= ~DP_SH_ACK_DUE;
			if (!(sh->tcp.flags & DP_SH_TIMED)) {
				sh->tcp.flags |= DP_SH_TIMED;
				sh->tcp.timed_seq = to;
				sh->tcp.timed_ns = now;
			}
			req.copy.ack = sh->tcp.rcv_nxt;
			req.copy.tsecr = sh->tcp.flags & DP_SH_TS ? sh->tcp.ts_recent : 0;
			req.copy.tsval = sh->tcp.ts_val;
		} else if (shadow_may_send(sh) || (sh->tcp.flags & DP_SH_DUE)) {
			/* A large template costs a copy of itself: the target's next
			 * acknowledgement, if one is to come, is a better one.
			 */
			if (skb->len <= TEMPLATE_LARGE || sh->tcp.una == sh->tcp.nxt ||
			    (sh->tcp.flags & DP_SH_DUE))
				act = ACT_WORK;
			waits = added && (__s32)(shadow_window_end(sh) - to) < 0;
		} else {
			waits = added && sh->tcp.end != sh->tcp.nxt;
		}
		if (!sh->tcp.due_ns &&
		    (waits || act == ACT_WORK)) /* persist, or a clone that fails */
			shadow_restart_rto_locked(sh, now);
	} else if (sh->tcp.flags & DP_SH_DUE) {
		act = ACT_WORK;
	}
	watch = timer_wanted_locked(sh);
	bpf_spin_unlock(&sh->lock);

	ledger_accept(ledger, added);
	if (watch)
		timer_watch(slot);
	if (ooo && added)
		ledger->event[DP_EVENT_out_of_order]++;
	if (p->payload && !added)
		ledger->event[DP_EVENT_client_retransmit]++;
	if (waits)
		ledger->event[DP_EVENT_window_full]++;
	if (act == ACT_NONE)
		return TAKEN;
	req.kind = act == ACT_COPY ? TXREQ_COPY : TXREQ_WORK;
	if (txreq_clone(skb, &req, act == ACT_COPY ? cfg.clone_flags : 0))
		ledger_event(ledger, DP_EVENT_clone_failed);
	else if (act == ACT_COPY)
		ledger->copied += skb->gso_segs ?: 1;
	return TAKEN;
}

#endif
