/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP input: what the target's segments do to a shadow.
 *
 * Nobody reads the answers, so the highest byte seen is acknowledged, holes or not: an answer
 * that was lost on the way needs no repair.
 */
#ifndef DOPPEL_INPUT_BPF_H
#define DOPPEL_INPUT_BPF_H

#include "flow/limit.bpf.h"
#include "ledger.bpf.h"
#include "packet/parse.bpf.h"
#include "store.bpf.h"
#include "tcp/errors.bpf.h"
#include "tcp/finish.bpf.h"
#include "tcp/path_mtu.bpf.h"
#include "tcp/preamble.bpf.h"
#include "tcp/recovery.bpf.h"
#include "tcp/timer.bpf.h"

/* FIN-WAIT-2 without a FIN: tcp_fin_timeout's default. */
#define LINGER_NS (60ull * 1000000000)

#define ACK_EVERY 8 /* answers; less than the ten segments of an initial window (RFC 6928) */
#define ACK_QUICK 32

#define HALF_OPEN_RESETS 4 /* resets of what the target remembers, per shadow */

/*
 * Unacceptable segments draw an ACK (RFC 9293, 3.10.7.4), and so do SYNs, wherever they lie (RFC
 * 5961, 4), but not each: a target gone wrong, or one that was told what it must not have been,
 * would answer that in turn, for ever (RFC 5961, 7; Linux: tcp_invalid_ratelimit).
 */
#define REFUSAL_MS 500

/* What is left to do with the packet. */
enum input_action {
	INPUT_DROP = 0,
	INPUT_ACK,	 /* turn this packet around as an ACK */
	INPUT_WORK,	 /* there is something to send: deliver does it, with this as template */
	INPUT_HALF_OPEN, /* reset what the target remembers, then SYN again */
	INPUT_RST,	 /* turn this packet around as a RST at its own ACK number */

	INPUT_RECOVERY = 1 << 8, /* beside these: tcp_recovery() goes on */
};

/* RFC 5961, 5.2: no acknowledgement is older, whatever the window was. Bytes. */
#define MAX_SND_WND (1u << 30)

#define EVENT_NONE (-1)

/* What input_locked() finds out, for the work to do without the lock. */
struct input_result {
	enum input_action act;
	__u32 delivered; /* bytes */
	struct store_part given;
	__u32 gen;
	__s32 why;   /* enum end_reason */
	__s32 event; /* enum dp_event, or EVENT_NONE */
	__u8 established;
	__u8 store_short;
	__u8 recovery; /* tcp_recovery() is wanted */
	__u8 smaller;  /* the path takes smaller packets than was believed */
	struct shadow_totals totals;
};

/*
 * RFC 9293, 3.10.7.4: the segment's text lies in our window, or right below it. Compared as one
 * distance, since a difference of 2^31 has no sign.
 */
static __always_inline bool segment_acceptable(const struct dp_shadow *sh, const struct pkt *p)
{
	__u32 wnd = (__u32)RCV_WINDOW << sh->tcp.rcv_wscale;

	return p->seq + p->payload - (sh->tcp.rcv_nxt - wnd) <= 2 * wnd + p->payload;
}

/* Options that both SYNs had are in use from here on. */
static __always_inline void negotiate_locked(struct dp_shadow *sh, const struct tcp_options *opt)
{
	__u32 mss, said;

	sh->tcp.flags &= ~(DP_SH_TS | DP_SH_SACK | DP_SH_WSCALE) | (opt->flags & sh->tcp.flags);
	if (!(sh->tcp.flags & DP_SH_WSCALE))
		sh->tcp.rcv_wscale = 0;
	else
		sh->tcp.snd_wscale = opt->wscale;
	/* RFC 9293, 3.7.1; RFC 6691: options come out of the MSS. */
	said = opt->mss ?: shadow_is_v6(sh) ? MSS_DEFAULT_V6 : MSS_DEFAULT;
	mss = said;
	if (mss > sh->tcp.mss_offer)
		mss = sh->tcp.mss_offer;
	sh->tcp.mss_offer = said;
	if (mss < MSS_LEAST)
		mss = MSS_LEAST;
	if (sh->tcp.flags & DP_SH_TS)
		mss -= TS_LEN;
	sh->tcp.mss = mss;
}

/* The target has taken the SYN, and the preamble where there is one. */
static __always_inline void established_locked(struct dp_shadow *sh, __u64 now,
					       struct input_result *r)
{
	sh->tcp.una = sh->tcp.isn + 1;
	sh->tcp.state = DP_ESTABLISHED;
	r->established = 1;
	sh->tcp.tries = 0;
	sh->tcp.due_ns = 0;
	if (sh->tcp.end != sh->tcp.nxt || shadow_fin_placed(sh))
		shadow_restart_rto_locked(sh, now); /* also if its window is shut */
	sh->tcp.flags &= ~(DP_SH_DUE | DP_SH_PREAMBLE);
	sh->tcp.flags |= DP_SH_ACK_DUE;
	r->act = INPUT_WORK;
}

/* The preamble is due, now and whenever the handshake's timer says so. */
static __always_inline void preamble_due_locked(struct dp_shadow *sh, __u64 now,
						struct input_result *r)
{
	sh->tcp.flags |= DP_SH_PREAMBLE | DP_SH_DUE;
	shadow_restart_rto_locked(sh, now);
	r->act = INPUT_WORK;
}

static __always_inline void syn_sent_locked(struct dp_shadow *sh, const struct pkt *p,
					    const struct tcp_options *opt, __u64 now,
					    struct input_result *r)
{
	if (!(p->flags & TCP_ACK))
		return; /* a SYN alone: nobody opens toward a shadow */
	if (p->ack != shadow_iss(sh) + 1) {
		/* RFC 9293, 3.10.7.3: an old connection of the target's on this port. */
		r->event = DP_EVENT_unacceptable;
		if (!(p->flags & TCP_RST) && sh->tcp.half_open_resets < HALF_OPEN_RESETS) {
			sh->tcp.half_open_resets++;
			r->act = INPUT_HALF_OPEN;
			r->event = DP_EVENT_half_open_reset;
		}
		return;
	}
	if (p->flags & TCP_RST) {
		r->why = DP_LOST_target_refused;
		shadow_end_locked(sh, &r->totals, false);
		return;
	}
	if (!(p->flags & TCP_SYN))
		return;
	/* After a loss it is the echo that tells which SYN is answered (RFC 7323, 4). Without that
	 * what others have measured holds, or RFC 6298, 5.7.
	 */
	if ((sh->tcp.flags & DP_SH_TIMED) ||
	    ((sh->tcp.flags & opt->flags & DP_SH_TS) && opt->tsecr == sh->tcp.resent_ts))
		shadow_rtt_locked(sh, (now - sh->tcp.timed_ns) / 1000);
	else if (sh->tcp.rto_ms >= INITIAL_RTO_MS)
		sh->tcp.rto_ms = LOST_SYN_RTO_MS;
	sh->tcp.flags &= ~(DP_SH_TIMED | DP_SH_STAMPED);
	negotiate_locked(sh, opt);
	congestion_start_locked(sh, sh->tcp.tries);
	sh->tcp.irs = p->seq;
	sh->tcp.rcv_nxt = p->seq + 1;
	sh->tcp.ts_recent = opt->tsval;
	sh->tcp.wnd = p->window; /* never scaled in a SYN (RFC 7323, 2.2) */
	sh->tcp.wl1 = p->seq;
	sh->tcp.wl2 = p->ack;
	sh->tcp.heard_ns = now;
	if (sh->tcp.preamble)
		preamble_due_locked(sh, now, r);
	else
		established_locked(sh, now, r);
}

static __always_inline void refuse_locked(struct dp_shadow *sh, __u64 now, struct input_result *r)
{
	__u32 ms = now / NSEC_PER_MSEC;

	r->event = DP_EVENT_unacceptable;
	r->act = INPUT_DROP;
	if (sh->tcp.refused && ms - sh->tcp.refused < REFUSAL_MS)
		return;
	sh->tcp.refused = ms | !ms;
	r->act = INPUT_ACK;
}

/* True: the preamble is acknowledged, and the segment goes on its way as any other. */
static __always_inline bool preamble_sent_locked(struct dp_shadow *sh, const struct pkt *p,
						 __u64 now, struct input_result *r)
{
	if (!(p->flags & TCP_SYN) && segment_acceptable(sh, p)) {
		if (p->flags & TCP_RST) {
			if (p->seq == sh->tcp.rcv_nxt) {
				r->why = DP_LOST_target_reset;
				shadow_end_locked(sh, &r->totals, false);
			}
			return false;
		}
		if ((p->flags & TCP_ACK) && p->ack == sh->tcp.isn + 1) {
			established_locked(sh, now, r);
			sh->tcp.flags &= ~DP_SH_ACK_DUE; /* the SYN-ACK's went with the preamble */
			r->act = INPUT_DROP;
			return true;
		}
	} else if (p->flags & TCP_SYN) {
		/* Our ACK of the SYN-ACK got lost, and the preamble with it. */
		refuse_locked(sh, now, r);
		if (r->act == INPUT_ACK)
			preamble_due_locked(sh, now, r);
	}
	return false;
}

/* RFC 9293, 3.10.7.4: which segments update the window. */
static __always_inline void window_locked(struct dp_shadow *sh, const struct pkt *p, __u32 wnd)
{
	if (!seq_before(p->ack, sh->tcp.una) &&
	    (seq_before(sh->tcp.wl1, p->seq) ||
	     (sh->tcp.wl1 == p->seq && !seq_before(p->ack, sh->tcp.wl2)))) {
		sh->tcp.wnd = wnd;
		sh->tcp.wl1 = p->seq;
		sh->tcp.wl2 = p->ack;
	}
}

/*
 * RFC 6298, 5.2 and 5.3. Bytes that wait for a window want the persist timer (RFC 9293, 3.8.6.1):
 * the same one; while the target answers it is never a reason to give up.
 */
static __always_inline void ack_timers_locked(struct dp_shadow *sh, bool moved, __u32 wnd,
					      __u64 now)
{
	if (moved && (sh->tcp.flags & DP_SH_PROBE))
		sh->tcp.flags &= ~(DP_SH_DUE | DP_SH_PROBE);
	if (moved || sh->tcp.una == sh->tcp.nxt || !wnd) {
		/* The path works: no further backing off from here (as Linux; RFC 6298, 5). A shut
		 * window is probed ever more seldom (RFC 9293, 3.8.6.1), until it opens, be it in
		 * answer to a probe or not.
		 */
		if (sh->tcp.srtt_us && (moved || wnd))
			shadow_base_rto_locked(sh);
		sh->tcp.tries = 0;
	}
	if (sh->tcp.una == sh->tcp.nxt) {
		sh->tcp.flags &= ~(DP_SH_DUE | DP_SH_PTO);
		if (sh->tcp.nxt == sh->tcp.end && !shadow_may_send(sh))
			sh->tcp.due_ns = 0;
		else if (moved || !sh->tcp.due_ns)
			shadow_restart_rto_locked(sh, now);
	} else if (moved) {
		shadow_restart_probe_locked(sh, now);
	}
}

/*
 * Chunks of which every byte is acknowledged; the last one, too, when all is and others need it.
 * Not under the hands of a capture that writes to the store.
 */
static __always_inline void free_acked_locked(struct dp_shadow *sh, __u32 una,
					      struct input_result *r)
{
	if (sh->tcp.refs)
		return;
	if (r->store_short && una == sh->tcp.end && !shadow_has_ahead(sh))
		give_all_locked(sh, &r->given);
	else
		give_acked_locked(sh, una, &r->given);
}

/* All is acknowledged. Without PSH the client's write is not over: more of the request follows. */
static __always_inline void quiet_locked(struct dp_shadow *sh)
{
	if (sh->tcp.una != sh->tcp.end || !(sh->tcp.flags & DP_SH_PUSH))
		return;
	sh->tcp.quiet = sh->tcp.end;
	if (sh->tcp.quiets < 255)
		sh->tcp.quiets++;
}

/* Nearly always there is no SACK, nothing is lost, and nothing was resent: all that is left then is
 * growth.
 */
static __always_inline bool recovery_wanted(const struct dp_shadow *sh, const struct ack_note *note)
{
	return (note->opt.n_sack && (sh->tcp.flags & DP_SH_SACK)) || note->dup ||
	       sh->tcp.n_sacked || sh->tcp.left_out ||
	       (sh->tcp.flags & (DP_SH_RECOVERY | DP_SH_PROBED | DP_SH_STAMPED));
}

static __always_inline void ack_locked(struct dp_shadow *sh, const struct pkt *p,
				       struct ack_note *note, __u64 now, struct input_result *r)
{
	__u32 una, before = snd_una_data(sh), wnd = (__u32)p->window << sh->tcp.snd_wscale;
	__u32 flight = congestion_pipe(sh);
	bool moved = false;

	note->acked = 0;
	note->dup = p->ack == sh->tcp.una && sh->tcp.una != sh->tcp.nxt && !p->payload &&
		    !(p->flags & TCP_FIN) && wnd == sh->tcp.wnd;
	if (seq_after(p->ack, sh->tcp.una)) {
		note->acked = p->ack - sh->tcp.una;
		sh->tcp.una = p->ack;
		moved = true;
		una = snd_una_data(sh);
		r->delivered = una - before;
		sh->tcp.delivered += r->delivered;
		sh->tcp.breaks = 0;
		r->smaller = path_mtu_ack_locked(sh, now);
		if ((sh->tcp.flags & DP_SH_TIMED) && !seq_before(p->ack, sh->tcp.timed_seq)) {
			shadow_rtt_locked(sh, (now - sh->tcp.timed_ns) / 1000);
			sh->tcp.flags &= ~DP_SH_TIMED;
		}
		quiet_locked(sh);
		free_acked_locked(sh, una, r);
	}
	r->recovery = recovery_wanted(sh, note);
	if (moved && !r->recovery)
		congestion_grow_locked(sh, note->acked, flight);
	window_locked(sh, p, wnd);
	ack_timers_locked(sh, moved, wnd, now);
}

/* A segment of the target's that does not follow what it said before, or follows by itself. */
static __always_inline void ack_pace_locked(struct dp_shadow *sh, const struct pkt *p,
					    __u32 expected)
{
	if (sh->tcp.quick == QUICK_ALWAYS)
		return;
	/* With Nagle's algorithm it says the rest of its answer once the first part is acknowledged
	 * (RFC 9293, 3.7.4). Or it says things that nobody asked for.
	 */
	if (sh->tcp.quick == QUICK_ALONE && p->payload && p->seq == expected)
		sh->tcp.quick = QUICK_ALWAYS;
	if (p->seq == expected)
		return;
	/* A tail loss probe (RFC 8985, 7) is no loss yet. But where all of ours has arrived it is
	 * for an acknowledgement that is kept back: its timer is shorter than that.
	 */
	if (p->seq + p->payload != expected)
		sh->tcp.quick = ACK_QUICK;
	else if (sh->tcp.unacked && sh->tcp.una == sh->tcp.end)
		sh->tcp.quick = QUICK_ALWAYS;
	else
		sh->tcp.quick = 1;
}

/*
 * Delayed acknowledgements (RFC 9293, 3.8.6.3). While bytes of ours are on their way, or wait for
 * its window, the target has one more thing to say, and the ACK of this answer goes with the one of
 * that. Otherwise it rides on what the client says next, or goes when ACK_WAIT_NS are over; of one
 * answer only, since with two on its way a target probes for a lost tail (RFC 8985, 7.2: a single
 * one it gives as long as such an ACK may take). Answered at once: a full segment, every
 * ACK_EVERY-th, and, as Linux does (tcp_enter_quickack_mode), some more after one that came out of
 * order, when the target may have to open its congestion window anew.
 */
static __always_inline bool ack_may_wait_locked(struct dp_shadow *sh, const struct pkt *p,
						__u32 expected, __u32 in_time, __u64 now)
{
	ack_pace_locked(sh, p, expected);
	if (sh->tcp.quick && sh->tcp.quick < QUICK_SLOW) {
		sh->tcp.quick--;
		return false;
	}
	if (sh->tcp.state != DP_ESTABLISHED || p->payload >= sh->tcp.mss)
		return false;
	if (sh->tcp.una != sh->tcp.end)
		return !p->payload || ++sh->tcp.unacked < ACK_EVERY;
	if (sh->tcp.quick || !p->payload || ++sh->tcp.unacked > 1 || !in_time ||
	    !shadow_holds_ack(sh))
		return false;
	sh->tcp.due_ns = now + ACK_WAIT_NS;
	return true;
}

/* RFC 5961, 3.2 */
static __always_inline void reset_locked(struct dp_shadow *sh, const struct pkt *p, __u64 now,
					 struct input_result *r)
{
	if (p->seq != sh->tcp.rcv_nxt) {
		refuse_locked(sh, now, r);
		return;
	}
	if (shadow_may_carry(sh, p->flags & TCP_ACK ? p->ack : sh->tcp.una)) {
		sh->tcp.flags |= DP_SH_CARRY;
		r->act = INPUT_WORK;
		return;
	}
	r->why = sh->tcp.state == DP_CLOSE_WAIT || sh->tcp.state == DP_LAST_ACK
			 ? DP_LOST_target_closed
			 : DP_LOST_target_reset;
	if (shadow_at_rest(sh))
		shadow_retire_locked(sh);
	shadow_end_locked(sh, &r->totals, false);
	if (!r->totals.pending && (sh->tcp.flags & DP_SH_CLIENT_FIN))
		r->why = END_CLEAN; /* it was over on both sides */
}

/* The target's payload and its FIN. */
static __always_inline void target_data_locked(struct dp_shadow *sh, const struct pkt *p)
{
	__u32 to = p->seq + p->payload;

	/* A keepalive, or any old segment (RFC 9293, 3.8.4 and 3.10.7.4) */
	if (!p->payload && !(p->flags & TCP_FIN) && seq_before(p->seq, sh->tcp.rcv_nxt))
		sh->tcp.flags |= DP_SH_ACK_DUE;
	if (p->payload || (p->flags & TCP_FIN)) {
		sh->tcp.flags |= DP_SH_ACK_DUE;
		sh->tcp.flags &= ~DP_SH_OWED; /* by whatever: who answers is not hung */
		if (seq_after(to, sh->tcp.rcv_nxt))
			sh->tcp.rcv_nxt = to;
		if ((p->flags & TCP_FIN) && to == sh->tcp.rcv_nxt &&
		    (sh->tcp.state == DP_ESTABLISHED || sh->tcp.state == DP_FIN_WAIT)) {
			sh->tcp.rcv_nxt = to + 1;
			sh->tcp.flags |= DP_SH_TARGET_FIN;
			if (sh->tcp.state == DP_ESTABLISHED)
				sh->tcp.state = DP_CLOSE_WAIT;
			else if (sh->tcp.state == DP_FIN_WAIT)
				sh->tcp.state =
					DP_LAST_ACK; /* CLOSING: only our FIN's ACK is missing */
		}
	}
}

static __always_inline void input_locked(struct dp_shadow *sh, const struct pkt *p,
					 struct ack_note *note, __u64 now, struct input_result *r)
{
	__u32 expected = sh->tcp.rcv_nxt;

	if (sh->gen != r->gen || !shadow_is_open(sh))
		return;
	if (sh->tcp.flags & DP_SH_PREAMBLE) {
		if (!preamble_sent_locked(sh, p, now, r))
			return;
	} else if (sh->tcp.state == DP_SYN_SENT) {
		syn_sent_locked(sh, p, &note->opt, now, r);
		return;
	}
	if (p->flags & TCP_SYN) { /* RFC 5961, 4; also our ACK of the SYN-ACK that got lost */
		refuse_locked(sh, now, r);
		if (shadow_may_send(sh))
			r->act = INPUT_WORK;
		return;
	}
	if (!segment_acceptable(sh, p)) {
		if (p->flags & TCP_RST)
			r->event = DP_EVENT_unacceptable;
		else
			refuse_locked(sh, now, r);
		return;
	}
	if (p->flags & TCP_RST) {
		reset_locked(sh, p, now, r);
		return;
	}
	/* RFC 5961, 5.2, with our whole stream as MAX.SND.WND: acknowledgements of what was never
	 * sent, or lies far back, are forged.
	 */
	if (!(p->flags & TCP_ACK) ||
	    p->ack - (sh->tcp.una - MAX_SND_WND) > sh->tcp.nxt - sh->tcp.una + MAX_SND_WND) {
		if (p->flags & TCP_ACK)
			refuse_locked(sh, now, r);
		else
			r->event = DP_EVENT_unacceptable;
		return;
	}
	if (p->has_ts && (__s32)(p->tsval - sh->tcp.ts_recent) > 0)
		sh->tcp.ts_recent = p->tsval;
	sh->tcp.heard_ns = now;
	ack_locked(sh, p, note, now, r);

	if (!(sh->tcp.flags & DP_SH_ACK_DUE))
		sh->tcp.unacked = 0;
	target_data_locked(sh, p);
	if (sh->tcp.state == DP_LAST_ACK && seq_after(sh->tcp.una, sh->tcp.fin)) {
		r->why = END_CLEAN;
		shadow_end_locked(sh, &r->totals, false);
		r->act = sh->tcp.flags & DP_SH_ACK_DUE ? INPUT_ACK : INPUT_DROP;
		return;
	}
	if (sh->tcp.state == DP_CLOSE_WAIT && shadow_at_rest(sh)) {
		shadow_retire_locked(sh);
		shadow_restart_rto_locked(sh, now); /* a clock of its own, should the FIN be lost */
	}
	if ((sh->tcp.flags & DP_SH_TARGET_FIN) && shadow_may_carry(sh, sh->tcp.una)) {
		sh->tcp.flags |= DP_SH_CARRY;
		r->act = INPUT_WORK;
		return;
	}
	/* Once: a target that goes on talking does not keep it. */
	if (sh->tcp.state == DP_FIN_WAIT && !(sh->tcp.flags & DP_SH_LINGER) &&
	    seq_after(sh->tcp.una, sh->tcp.fin)) {
		sh->tcp.due_ns = now + LINGER_NS;
		sh->tcp.flags |= DP_SH_LINGER;
		sh->tcp.flags &= ~DP_SH_PTO;
	}
	if (shadow_may_send(sh) || (sh->tcp.flags & DP_SH_DUE))
		r->act = INPUT_WORK;
	else if ((sh->tcp.flags & DP_SH_ACK_DUE) &&
		 !ack_may_wait_locked(sh, p, expected, note->in_time, now))
		r->act = INPUT_ACK;
	if (r->act == INPUT_ACK)
		sh->tcp.flags &= ~DP_SH_ACK_DUE;
}

/* What tcp_input() has of the packet for itself and tcp_recovery(). NULL cannot be. */
static __always_inline struct ack_note *ack_note_of(struct __sk_buff *skb, struct pkt *p)
{
	__u32 zero = 0;
	struct scratch_space *s = bpf_map_lookup_elem(&scratch, &zero);

	if (!s)
		return NULL;
	if (p->plain) {
		__builtin_memset(&s->ack.opt, 0, sizeof(s->ack.opt));
	} else {
		parse_options(skb, p, &s->ack.opt);
		p->has_ts = !!(s->ack.opt.flags & DP_SH_TS);
		p->tsval = s->ack.opt.tsval;
	}
	return &s->ack;
}

/* Payload of the target's: before tcp_input() moves RCV.NXT, which tells what it said before. */
GLOBAL int count_answer(struct __sk_buff *skb, const struct pkt *p, __u32 slot)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_ledger *l;

	if (!p || !sh)
		return 0;
	l = shadow_ledger(sh);
	if (!l)
		return 0;
	l->last.answered = now;
	if (p->seq != sh->tcp.rcv_nxt)
		return 0;
	l->answers++;
	if (answer_is_error(skb, p)) {
		l->event[DP_EVENT_error_answer]++;
		l->last.erred = now;
	} else {
		l->last.served = now;
	}
	return 0;
}

/* Everything but losses and the answer; returns enum input_action, perhaps with INPUT_RECOVERY. */
GLOBAL int tcp_input(struct __sk_buff *skb, struct pkt *p, __u32 slot, __u32 gen)
{
	struct input_result r = {.why = END_NONE, .event = EVENT_NONE, .gen = gen};
	struct dp_shadow *sh = shadow_at(slot);
	struct ack_note *note;
	struct dp_ledger *l;
	__u64 now;
	bool watch;

	if (!p || !sh)
		return INPUT_DROP;
	l = shadow_ledger(sh);
	if (!l)
		return INPUT_DROP;
	l->responses += skb->gso_segs ?: 1;
	if (sh->tcp.state == DP_TIME_WAIT) {
		/* Remembered for this alone: a FIN that is sent again wants its ACK, and our stack
		 * must not see it (RFC 9293, 3.10.7.4, TIME-WAIT).
		 */
		l->event[DP_EVENT_late_response]++;
		if (p->flags & TCP_RST)
			return INPUT_DROP;
		if (sh->tcp.flags & DP_SH_BROKEN)
			return INPUT_RST;
		return p->flags & TCP_FIN ? INPUT_ACK : INPUT_DROP;
	}
	if (p->payload)
		count_answer(skb, p, slot);
	note = ack_note_of(skb, p);
	if (!note)
		return INPUT_DROP;
	now = bpf_ktime_get_coarse_ns();
	/* GRO makes one packet of several answers: a target has that many segments on their way. */
	note->in_time = skb->gso_segs <= 1 && timer_is_in_time(now);
	r.store_short = store_is_short();
	/* 0, as no clock is negative. A 0 that the verifier knows would keep it from seeing that
	 * the ways through input_locked() are alike: a tenth more instructions for it.
	 */
	r.given.n = (__s64)now >> 63;

	bpf_spin_lock(&sh->lock);
	input_locked(sh, p, note, now, &r);
	watch = shadow_is_open(sh) && timer_wanted_locked(sh);
	bpf_spin_unlock(&sh->lock);
	if (watch)
		timer_watch(slot);

	ledger_deliver(l, r.delivered, now);
	/* Unlocked: it is for `status` alone. */
	if (!sh->tcp.wnd && sh->tcp.una != sh->tcp.end && sh->tcp.state == DP_ESTABLISHED)
		l->last.shut = now;
	if (r.established) {
		l->last.taken = now;
		limit_half_open(sh->ep.key.mapping, sh->ep.key.target, -1);
		limit_note_back(sh->ep.key.mapping, sh->ep.key.target, now);
		if (sh->tcp.srtt_us)
			limit_note_rto(sh->ep.key.mapping, sh->ep.key.target, sh->tcp.rto_ms);
		else
			timer_learn(slot, gen);
		client_count(&sh->ep.key.client, 0, 0, -1);
	}
	if (r.smaller)
		path_mtu_remember(sh, l);
	if (r.event >= 0 && r.event < DP_EVENT_N)
		l->event[r.event]++;
	if (r.given.n)
		store_free(slot, r.given.gen, r.given.chunk, r.given.n);
	if (r.totals.ended)
		shadow_finish(slot, &r.totals, r.why);
	return r.recovery ? r.act | INPUT_RECOVERY : r.act;
}

#endif
