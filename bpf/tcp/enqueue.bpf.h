/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A captured segment becomes part of the shadow's stream, and a copy if it may be one. Three steps
 * under the lock: claim (is it of this stream, and is there room?), account (it is part of the
 * stream now), decide (what is sent at once?). Its payload is stored between the first two, without
 * the lock, at its own place in the store.
 *
 * Text beyond a hole goes into the store, and is marked there (presence.bpf.h). It is part of the
 * stream when the source has it: flow_judge() and shadow_confirm() tell.
 */
#ifndef DOPPEL_ENQUEUE_BPF_H
#define DOPPEL_ENQUEUE_BPF_H

#include "flow/acceptable.bpf.h"
#include "flow/bar.bpf.h"
#include "flow/flow.bpf.h"
#include "packet/fraglist.bpf.h"
#include "packet/txreq.bpf.h"
#include "presence.bpf.h"
#include "store.bpf.h"
#include "tcp/finish.bpf.h"
#include "tcp/timer.bpf.h"

/* Who has said that the segment is the client's. */
enum judged {
	JUDGED_BY_NOBODY = 0,
	JUDGED_UNSEEN, /* where no socket can tell: nobody contradicts */
	JUDGED_BY_SOCKET,
	JUDGED_BEHIND, /* by a socket that has not been given yet what was captured before */
};

/* A segment on its way through the three steps. */
struct arrival {
	__u64 now;
	__u32 gen;
	__u32 from; /* [from, to): what may be new of it */
	__u32 to;
	__u32 added;  /* bytes that were new */
	__u32 reason; /* VERDICT_BREAK: enum dp_lost */
	bool fresh;   /* [from, to) is wanted */
	bool ahead;   /* it lies beyond a hole */
	__u8 judged;  /* enum judged */
	__u8 sender;  /* this_sender() */
	bool waits;   /* for the target's window, or for bytes before it */
	bool last_ref;
	bool watch;
	bool more;	  /* text beyond a hole is left in the store */
	bool full;	  /* the store is */
	bool strung;	  /* skb_is_fraglist() */
	bool answered;	  /* the source answered, for all that is seen, and the target did not */
	struct txreq req; /* TXREQ_NONE: nothing is sent now */
};

/* May this very packet become the segment that the shadow sends next? */
static __always_inline bool copyable(struct __sk_buff *skb, const struct pkt *p,
				     const struct dp_shadow *sh, const struct arrival *a)
{
	__u32 size = (skb->gso_size ?: p->payload) + p->optlen;
	__u32 room = sh->tcp.mss + (sh->tcp.flags & DP_SH_TS ? TS_LEN : 0);

	/* Bytes behind the packet, such as Ethernet's padding, would be in the checksum that a
	 * device makes of a CHECKSUM_PARTIAL copy (skb_checksum_help, net/core/dev.c).
	 */
	return p->plain && p->v6 == shadow_is_v6(sh) && !(p->flags & ~(TCP_ACK | TCP_PSH)) &&
	       size <= room && p->data_off + p->payload == skb->len &&
	       (p->has_ts || !(sh->tcp.flags & DP_SH_TS)) && skb->gso_segs < 65535 && !a->strung &&
	       a->from == p->seq;
}

/* Stream bytes from `from` on into the store. 0, or -1: it is full. */
GLOBAL int enqueue_store(struct __sk_buff *skb, const struct pkt *p, __u32 slot, __u32 from)
{
	struct store_write w = {.skb = skb, .slot = slot, .seq = from};

	w.sh = shadow_at(slot);
	if (!p || !w.sh)
		return -1;
	w.offset = p->data_off + (from - p->seq);
	w.left = p->seq + p->payload - from;
	if (p->shared)
		w.how = lead_how(slot, from, from + w.left);
	else if (from == w.sh->tcp.end && !shadow_has_ahead(w.sh))
		w.how = TAKE_NEW;
	if (store_put(&w))
		return -1;
	if ((w.how & TAKE_IN_ORDER) && !(w.how & TAKE_FOLLOWS))
		lead_set(slot, from, w.seq);
	if (w.how & TAKE_SHORT) /* text beyond a hole alone would not start it */
		timer_run();
	return 0;
}

/*
 * Is the segment of this stream, and is there room for it? VERDICT_SHADOW: go on; what is fresh
 * holds a reference then, so that nobody frees the chunks that it is written to. VERDICT_ASK: only
 * the source can tell.
 */
static __always_inline enum verdict_kind claim_locked(struct dp_shadow *sh, const struct pkt *p,
						      struct arrival *a)
{
	if (sh->gen != a->gen)
		return VERDICT_GONE;
	if (!shadow_is_open(sh))
		/* While its bytes are carried over nobody takes more: a hole, as of a lost frame.
		 */
		return sh->tcp.flags & DP_SH_RESUME  ? VERDICT_CLOSED
		       : sh->tcp.flags & DP_SH_CARRY ? VERDICT_DONE
						     : VERDICT_GONE;
	/*
	 * PAWS (RFC 7323, 5): an old duplicate may have the right number by chance. With a tick of
	 * tolerance, as Linux (TCP_PAWS_WINDOW): a resend of ours may be one ahead of the client.
	 */
	if (!a->judged && ((p->payload && (shadow_fin_placed(sh) || shadow_has_ahead(sh))) ||
			   !continues(p, sh->tcp.end, sh->tcp.ack_seen) ||
			   (p->has_ts && seq_before(p->tsval + 1, sh->tcp.ts_val))))
		return VERDICT_ASK;
	a->ahead = seq_after(p->seq, sh->tcp.end);
	a->from = seq_max(p->seq, sh->tcp.end);
	if ((sh->tcp.flags & DP_SH_RESUME) && p->payload && seq_after(a->to, sh->tcp.end))
		return VERDICT_CLOSED;
	/* Text behind a FIN that the source has not: it was not the client's, or was never taken.
	 */
	if (a->judged >= JUDGED_BY_SOCKET && p->payload && shadow_fin_placed(sh) &&
	    seq_after(a->to, sh->tcp.end))
		return VERDICT_CLOSED;
	/* Nothing follows a FIN (RFC 9293, 3.10.4). */
	a->fresh = p->payload && seq_after(a->to, a->from) && !shadow_fin_placed(sh);
	if (!a->fresh)
		return VERDICT_SHADOW;
	if (cfg.flow_cap && a->to - sh->tcp.una > cfg.flow_cap) {
		a->reason = DP_LOST_flow_cap;
		return VERDICT_BREAK;
	}
	sh->tcp.refs++;
	sh->tcp.store_end = seq_max(sh->tcp.store_end, a->to);
	return VERDICT_SHADOW;
}

/* Its first payload, as far as claim_locked() would take it: a shadow may be older than that. */
static __always_inline bool shadow_begins_with(const struct dp_shadow *sh, const struct pkt *p,
					       const struct arrival *a)
{
	return p->payload && p->seq == sh->tcp.isn + 1 && p->seq == sh->tcp.end &&
	       !(sh->tcp.flags & DP_SH_JOINED) &&
	       (a->judged || continues(p, sh->tcp.end, sh->tcp.ack_seen));
}

/* The client's FIN, or its RST, right behind the last byte. The source accepts it. */
static __always_inline void client_closes_locked(struct dp_shadow *sh, const struct pkt *p,
						 __u32 to)
{
	if (shadow_fin_placed(sh)) {
		/* Behind the target, the client closes as well: nothing goes on. */
		if (((p->flags & TCP_FIN) && to == sh->tcp.end) ||
		    ((p->flags & TCP_RST) && p->seq == sh->tcp.end))
			sh->tcp.flags &= ~DP_SH_RESUME;
		return;
	}
	if ((p->flags & TCP_FIN) && seq_after(to, sh->tcp.end)) {
		sh->tcp.flags |= DP_SH_FIN_AHEAD;
		sh->tcp.fin = to;
		return;
	}
	/*
	 * A RST of the client becomes a FIN behind the last byte: a target that is reset while
	 * it still works on what it acknowledged would drop it, and the source did not.
	 */
	if ((p->flags & TCP_RST) && p->seq == sh->tcp.end)
		sh->tcp.flags |= DP_SH_CLIENT_FIN | DP_SH_CLIENT_RST;
	else if ((p->flags & TCP_FIN) && to == sh->tcp.end)
		sh->tcp.flags |= DP_SH_CLIENT_FIN;
	else
		return;
	sh->tcp.fin = sh->tcp.end;
}

/* The text is part of the stream now, or known to wait beyond a hole. */
static __always_inline void extend_locked(struct dp_shadow *sh, const struct pkt *p,
					  struct arrival *a)
{
	if (a->ahead) {
		sh->tcp.ahead = shadow_has_ahead(sh) ? seq_max(sh->tcp.ahead, a->to) : a->to;
		return;
	}
	if (!seq_after(a->to, sh->tcp.end)) /* another CPU brought it meanwhile */
		return;
	a->added = a->to - sh->tcp.end;
	sh->tcp.end = a->to;
	if (!shadow_has_ahead(sh))
		sh->tcp.ahead = sh->tcp.end;
	sh->tcp.observed += a->added;
	if (!(sh->tcp.flags & DP_SH_OWED))
		shadow_pace_locked(sh, a->now);
	sh->tcp.flags |= DP_SH_OWED;
	sh->tcp.ack_last = p->ack;
	if (p->flags & TCP_PSH)
		sh->tcp.flags |= DP_SH_PUSH;
	else
		sh->tcp.flags &= ~DP_SH_PUSH;
}

/* The segment becomes part of the stream. VERDICT_SHADOW: go on. */
static __always_inline enum verdict_kind account_locked(struct dp_shadow *sh, const struct pkt *p,
							struct arrival *a)
{
	if (!shadow_is_open(sh))
		return VERDICT_GONE;
	/* Its flow left it meanwhile: the stream has ended before this. */
	if (a->fresh && shadow_fin_placed(sh))
		return VERDICT_GONE;
	if (a->full) {
		a->reason = DP_LOST_store_full;
		return VERDICT_BREAK;
	}
	sh->tcp.seen_ns = a->now;
	if (p->has_ts && seq_after(p->tsval, sh->tcp.ts_val))
		sh->tcp.ts_val = p->tsval;
	/* Beyond a hole it would hide that an answer came since: taken_by_unseen(). */
	if (!a->ahead && seq_after(p->ack, sh->tcp.ack_seen)) {
		sh->tcp.ack_seen = p->ack;
		a->answered = !!(sh->tcp.flags & DP_SH_OWED);
	}
	if (a->fresh)
		extend_locked(sh, p, a);
	client_closes_locked(sh, p, a->to);
	return VERDICT_SHADOW;
}

/* The packet itself is what is sent next: after this call it counts as sent. */
static __always_inline void send_copy_locked(struct dp_shadow *sh, struct arrival *a)
{
	if (sh->tcp.una == sh->tcp.nxt || !sh->tcp.due_ns)
		shadow_restart_probe_locked(sh, a->now);
	congestion_sender_locked(sh, a->sender);
	sh->tcp.nxt = a->to;
	sh->tcp.flags &= ~DP_SH_ACK_DUE;
	if (!(sh->tcp.flags & (DP_SH_TIMED | DP_SH_STAMPED))) {
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
	if ((sh->tcp.flags & DP_SH_CARRY) ||
	    (sh->tcp.state != DP_ESTABLISHED && sh->tcp.state != DP_CLOSE_WAIT)) {
		if (sh->tcp.flags & (DP_SH_DUE | DP_SH_CARRY))
			a->req.kind = TXREQ_WORK;
		return;
	}
	if (a->added && sh->tcp.una == sh->tcp.nxt)
		congestion_idle_locked(sh, a->now);
	if (a->added == p->payload && a->added && sh->tcp.nxt == p->seq && sh->tcp.end == a->to &&
	    (__s32)(shadow_window_end(sh) - a->to) >= 0 && a->added <= congestion_room(sh) &&
	    !(sh->tcp.flags & (DP_SH_RECOVERY | DP_SH_DUE)) && copyable(skb, p, sh, a)) {
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
		a->more = shadow_has_ahead(sh) || (sh->tcp.flags & DP_SH_FIN_AHEAD);
	}
	bpf_spin_unlock(&sh->lock);
	return kind;
}

static __always_inline void enqueue_count(struct dp_ledger *l, const struct pkt *p,
					  const struct arrival *a)
{
	ledger_accept(l, a->added);
	if (a->answered)
		l->last.source_answered = a->now;
	if (a->ahead && a->fresh)
		l->event[DP_EVENT_out_of_order]++;
	else if (p->payload && !a->added)
		l->event[DP_EVENT_client_retransmit]++;
	if (a->waits)
		l->event[DP_EVENT_window_full]++;
}

/*
 * Text beyond a hole meets other such text. The source keeps a piece that holds the whole segment,
 * and of one that begins before it, what that has (tcp_data_queue_ofo, net/ipv4/tcp_input.c); all
 * else is replaced by the segment. Pieces are told apart by what lies between them only: Linux,
 * too, makes one of neighbours (tcp_ooo_try_coalesce), where their memory allows it. Returns from
 * where on [from, to) is wanted. At the end of the stream that is all: what the source has there is
 * confirmed before, and what it has not it dropped. But where it lags it is about to take what is
 * there.
 */
GLOBAL __u32 enqueue_keeps(__u32 slot, __u32 from, __u32 to, bool ahead)
{
	struct dp_shadow *sh = shadow_at(slot);
	__u32 kept;

	if (!sh)
		return from;
	kept = presence_end(slot, sh->tcp.store_gen, from, to);
	if (kept == to || !ahead || presence_end(slot, sh->tcp.store_gen, from - 1, from) == from)
		return kept;
	return from;
}

/*
 * The segment for the shadow that *v names; `judged`: flow_judge() has looked at it. v->kind then:
 * DONE; or what is left to do, which the caller does, because the stacks of nested calls add up to
 * 512 bytes at most: ASK, GONE, or BAR and BREAK with their reason.
 */
GLOBAL int enqueue(struct __sk_buff *skb, const struct pkt *p, struct verdict *v, __u32 judged)
{
	enum verdict_kind kind;
	struct arrival a = {};
	struct dp_shadow *sh;
	struct dp_ledger *l;
	bool there;

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
	a.judged = judged;
	a.sender = this_sender();
	a.to = p->seq + p->payload;
	if (shadow_begins_with(sh, p, &a) && begins_with_tls(skb, p)) {
		v->kind = VERDICT_BAR;
		v->reason = DP_EXCLUDED_tls;
		return 0;
	}
	/* What continues() lets pass has no such flag: the source has taken it. */
	if (judged && (p->flags & TCP_URG) && p->payload) {
		v->kind = VERDICT_BAR;
		v->reason = DP_EXCLUDED_urgent;
		return 0;
	}
	kind = enqueue_claim(sh, p, &a);
	if (kind != VERDICT_SHADOW) {
		v->kind = kind;
		v->reason = a.reason;
		return 0;
	}
	if (a.fresh && (a.ahead || judged == JUDGED_BEHIND) && shadow_has_ahead(sh))
		a.from = enqueue_keeps(v->slot, a.from, a.to, a.ahead);
	there = a.from == a.to;
	if (a.fresh && !there)
		a.full = enqueue_store(skb, p, v->slot, a.from);
	if (a.ahead && a.fresh && !there && !a.full)
		presence_mark(v->slot, sh->tcp.store_gen, a.from, a.to);
	a.strung = a.fresh && skb_is_fraglist(skb);
	kind = enqueue_commit(skb, sh, p, &a);
	if (kind != VERDICT_SHADOW) {
		if (kind == VERDICT_GONE && a.last_ref)
			shadow_release(l, sh, v->slot);
		v->kind = kind;
		v->reason = a.reason;
		return 0;
	}
	v->more = a.more;
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
