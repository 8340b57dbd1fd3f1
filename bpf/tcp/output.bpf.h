/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* TCP output: which segment a shadow sends next, and the sending of what it owes. */
#ifndef DOPPEL_OUTPUT_BPF_H
#define DOPPEL_OUTPUT_BPF_H

#include "flow/carry.bpf.h"
#include "packet/build.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/finish.bpf.h"
#include "tcp/path_mtu.bpf.h"
#include "tcp/preamble.bpf.h"
#include "tcp/recovery.bpf.h"
#include "tcp/timer.bpf.h"

/* Segments that one event may send: bounded work, and the ACK of any of them is the next event. */
#define TX_BURST       16
#define TX_BURST_LARGE 2

enum sent {
	SENT_NEW = 0,
	SENT_AGAIN,
	SENT_SYN_AGAIN,
	SENT_CONTROL,
};

/*
 * Payload or the FIN, for the first time; shadow_may_send() said yes, or it is a probe, for which
 * the path always has room (RFC 8985, 7.3).
 */
static __always_inline enum sent next_new_locked(struct dp_shadow *sh, struct segment *g, __u64 now,
						 __u32 max, __u8 sender, bool probe)
{
	__u32 left, room;

	congestion_sender_locked(sh, sender);
	g->seq = sh->tcp.nxt;
	if (sh->tcp.una == sh->tcp.nxt)
		congestion_idle_locked(sh, now);
	if (sh->tcp.una == sh->tcp.nxt || !sh->tcp.due_ns)
		shadow_restart_probe_locked(sh, now);
	sh->tcp.flags &= ~DP_SH_ACK_DUE;
	left = sh->tcp.end - sh->tcp.nxt;
	if (left) {
		room = probe ? shadow_window_room(sh) : shadow_may_send_bytes(sh);
		g->len = left < room ? left : room;
		if (g->len > max)
			g->len = max;
		g->flags = g->len == left ? TCP_ACK | TCP_PSH : TCP_ACK;
		sh->tcp.nxt += g->len;
		sh->tcp.prr_out += g->len;
		if (!(sh->tcp.flags & (DP_SH_TIMED | DP_SH_STAMPED | DP_SH_RECOVERY))) {
			sh->tcp.flags |= DP_SH_TIMED;
			sh->tcp.timed_seq = sh->tcp.nxt;
			sh->tcp.timed_ns = now;
		}
		return SENT_NEW;
	}
	g->flags = TCP_FIN | TCP_ACK;
	sh->tcp.nxt = sh->tcp.fin + 1;
	sh->tcp.state = sh->tcp.state == DP_CLOSE_WAIT ? DP_LAST_ACK : DP_FIN_WAIT;
	return SENT_CONTROL;
}

/* A tail loss probe: something new where there is room for it, else the last segment once more. */
static __always_inline enum sent next_probe_locked(struct dp_shadow *sh, struct segment *g,
						   __u64 now, __u32 max, __u8 sender)
{
	enum sent kind = SENT_AGAIN;

	if (sh->tcp.nxt != sh->tcp.end && shadow_window_room(sh) >= sh->tcp.mss &&
	    (sh->tcp.state == DP_ESTABLISHED || sh->tcp.state == DP_CLOSE_WAIT)) {
		kind = next_new_locked(sh, g, now, max, sender, true);
	} else {
		recovery_probe_locked(sh, &g->seq, &g->len, max, now);
		g->flags = g->len ? TCP_ACK | TCP_PSH : TCP_ACK | TCP_FIN;
		sh->tcp.flags &= ~DP_SH_ACK_DUE;
		sh->tcp.resent++;
	}
	sh->tcp.flags |= DP_SH_PROBED;
	sh->tcp.probe_end = sh->tcp.nxt;
	return kind;
}

/* What the shadow owes next. Claims it: after this call it counts as sent. */
static __always_inline bool next_segment_locked(struct dp_shadow *sh, struct segment *g, __u64 now,
						__u8 sender, enum sent *kind)
{
	__u32 payload = path_mtu_payload(sh);
	__u32 max = payload < SEG_MAX_PAYLOAD ? payload : SEG_MAX_PAYLOAD;

	*kind = SENT_CONTROL;
	g->len = 0;
	if (!shadow_is_open(sh)) {
		if (!(sh->tcp.flags & DP_SH_RST_OWED))
			return false;
		sh->tcp.flags &= ~DP_SH_RST_OWED;
		g->seq = sh->tcp.nxt;
		g->flags = TCP_RST | TCP_ACK;
		return true;
	}
	if (sh->tcp.flags & DP_SH_DUE) {
		bool probe = sh->tcp.flags & DP_SH_PROBE;

		sh->tcp.flags &= ~(DP_SH_DUE | DP_SH_PROBE);
		if (sh->tcp.flags & DP_SH_PREAMBLE) {
			g->seq = shadow_iss(sh) + 1;
			g->len = sh->tcp.preamble;
			g->flags = TCP_ACK | TCP_PSH;
			return true;
		}
		if (sh->tcp.state == DP_SYN_SENT) {
			recovery_stamp_locked(sh, now);
			g->seq = shadow_iss(sh);
			g->flags = TCP_SYN;
			*kind = SENT_SYN_AGAIN;
			return true;
		}
		if (sh->tcp.una == sh->tcp.nxt) {
			/* The window is shut: an old sequence number draws an ACK (RFC
			 * 9293, 3.8.6.1, the way Linux probes).
			 */
			g->seq = sh->tcp.una - 1;
			g->flags = TCP_ACK;
			return true;
		}
		if (probe && !(sh->tcp.flags & DP_SH_RECOVERY)) {
			*kind = next_probe_locked(sh, g, now, max, sender);
			return true;
		}
	}
	if (sh->tcp.state == DP_SYN_SENT)
		return false;
	if (recovery_pending_locked(sh)) {
		recovery_next_locked(sh, &g->seq, &g->len, max, now);
		g->flags = g->len ? TCP_ACK | TCP_PSH : TCP_ACK | TCP_FIN;
		sh->tcp.flags &= ~DP_SH_ACK_DUE;
		sh->tcp.resent++;
		*kind = SENT_AGAIN;
		return true;
	}
	if (shadow_may_send(sh)) {
		*kind = next_new_locked(sh, g, now, max, sender, false);
		return true;
	}
	if (sh->tcp.flags & DP_SH_ACK_DUE) {
		shadow_ack_leaves_alone_locked(sh);
		sh->tcp.flags &= ~DP_SH_ACK_DUE;
		g->seq = acceptable_seq(sh);
		g->flags = TCP_ACK;
		return true;
	}
	return false;
}

struct output {
	struct __sk_buff *skb;
	struct dp_shadow *sh;
	struct dp_ledger *ledger;
	__u64 now;
	__u32 slot;
	__u32 gen;
	__u8 sender; /* this_sender() */
};

static long output_one(__u32 i, struct output *w)
{
	struct dp_shadow *sh = w->sh;
	struct txreq req = {.kind = TXREQ_SEGMENT, .slot = w->slot, .gen = w->gen};
	struct shadow_totals totals = {};
	enum sent kind = SENT_CONTROL;
	bool some;

	bpf_spin_lock(&sh->lock);
	some = sh->gen == w->gen && next_segment_locked(sh, &req.segment, w->now, w->sender, &kind);
	if (some && (req.segment.flags & TCP_RST))
		shadow_end_locked(sh, &totals, true);
	bpf_spin_unlock(&sh->lock);
	if (!some)
		return 1;
	if (txreq_clone(w->skb, &req, 0))
		ledger_event(w->ledger, DP_EVENT_clone_failed);
	if (kind == SENT_SYN_AGAIN)
		timer_learn(w->slot, w->gen);
	if (!w->ledger)
		kind = SENT_CONTROL;
	else if (kind == SENT_AGAIN)
		w->ledger->resent++;
	else if (kind == SENT_SYN_AGAIN)
		w->ledger->event[DP_EVENT_syn_retransmit]++;
	else if (kind == SENT_NEW)
		w->ledger->copied++;
	if (totals.ended) /* after the RST: from here on the slot may be another flow's */
		shadow_finish(w->slot, &totals, END_CLEAN);
	return req.segment.flags & TCP_RST ? 1 : 0;
}

/* Sends what the shadow owes, a burst at most; skb: template for the segments. */
static __always_inline void tcp_output(struct __sk_buff *skb, struct dp_shadow *sh, __u32 slot)
{
	struct output w = {
		.skb = skb, .sh = sh, .slot = slot, .gen = sh->gen, .sender = this_sender()};
	/* Trimming makes it linear but does not shrink it, and every clone is charged for it. */
	__u32 burst = skb->len > TEMPLATE_LARGE ? TX_BURST_LARGE : TX_BURST;
	bool watch;

	if (sh->tcp.flags & DP_SH_CARRY) {
		flow_carry(skb, slot, w.gen);
		return;
	}
	if (path_mtu_is_short(sh))
		path_mtu_review(slot, w.gen);
	w.ledger = shadow_ledger(sh);
	w.now = bpf_ktime_get_coarse_ns();
	/* One trim for all the segments that are cloned from this template. Where it fails, the
	 * clock that shadow_command() started must be watched all the same.
	 */
	if (skb->len <= OPT_OFF || !template_fit(skb, shadow_is_v6(sh), 0))
		bpf_loop(burst, output_one, &w, 0);
	bpf_spin_lock(&sh->lock);
	watch = shadow_is_open(sh) && timer_wanted_locked(sh);
	bpf_spin_unlock(&sh->lock);
	if (watch)
		timer_watch(slot);
}

#endif
