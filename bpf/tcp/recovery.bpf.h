/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Loss toward the target. Found by duplicate acknowledgements and SACK (RFC 5681, 6675), by a tail
 * loss probe (RFC 8985, 7), else by timeout (RFC 6298); repaired from the store. What the client
 * sends again is never a reason: the source's losses are not the target's.
 *
 * Below `lost` all that is not SACKed is lost; `rtx` goes from una to there, and what lies behind
 * it was sent again. Functions named *_locked run under dp_shadow.lock.
 */
#ifndef DOPPEL_RECOVERY_BPF_H
#define DOPPEL_RECOVERY_BPF_H

#include "packet/parse.bpf.h"
#include "tcp/congestion.bpf.h"
#include "tcp/sack.bpf.h"
#include "tcp/shadow.bpf.h"

/* So long a hole of several CPUs' segments may be one of order, at least: a queue waits for its
 * CPU. */
#define SETTLE_LEAST_NS (4 * NSEC_PER_MSEC)

/*
 * Where several CPUs have sent, a hole is lost only when it has been one for a while: a quarter of
 * the round trip, as in RFC 8985, 6.2, which has the shortest one. Before recovery_count_locked().
 * now: exact, as the coarse clock's step may be longer.
 */
static __always_inline void recovery_settle_locked(struct dp_shadow *sh, __u64 now)
{
	__u64 wait = (sh->tcp.srtt_us >> 5) * 1000ull;

	if (wait < SETTLE_LEAST_NS)
		wait = SETTLE_LEAST_NS;
	if (sh->tcp.settled - sh->tcp.una > sh->tcp.nxt - sh->tcp.una)
		sh->tcp.settled = sh->tcp.una;
	if (sh->tcp.settling_ns && now - sh->tcp.settling_ns >= wait) {
		sh->tcp.settled = sh->tcp.settling;
		sh->tcp.settling_ns = 0;
	}
	if (!sh->tcp.settling_ns) {
		sh->tcp.settling = sack_lost(sh);
		if (seq_after(sh->tcp.settling, sh->tcp.una))
			sh->tcp.settling_ns = now;
	}
}

/*
 * What is lost, and what is on no path: after each change of una, nxt or `sacked` while there is a
 * recovery or a SACK. Without SACK duplicates are counted instead: recovery_dup_locked().
 */
static __always_inline void recovery_count_locked(struct dp_shadow *sh)
{
	__u32 rtx = seq_max(sh->tcp.rtx, sh->tcp.una), lost = sh->tcp.una;

	if (sh->tcp.flags & DP_SH_RTO) {
		lost = sh->tcp.recover;
	} else if (sh->tcp.flags & DP_SH_SACK) {
		lost = sack_lost(sh);
		if (congestion_shuffled(sh))
			lost = seq_max(seq_min(lost, sh->tcp.settled), sh->tcp.una);
	} else {
		sh->tcp.lost = lost;
		return;
	}
	/* What the probe, which is younger, has overtaken. */
	if ((sh->tcp.flags & (DP_SH_PROBED | DP_SH_RTO)) == DP_SH_PROBED &&
	    !seq_before(sack_high(sh), sh->tcp.probe_end))
		lost = sh->tcp.probe_end;
	sh->tcp.lost = lost;
	sh->tcp.left_out = sack_bytes(sh);
	if ((sh->tcp.flags & DP_SH_RECOVERY) && seq_before(rtx, lost))
		sh->tcp.left_out += lost - rtx - sack_bytes_in(sh, rtx, lost);
}

/* All up to nxt is looked at again. flags: DP_SH_RTO, or 0. */
static __always_inline void recovery_start_locked(struct dp_shadow *sh, __u32 flags)
{
	congestion_loss_locked(sh, sh->tcp.flags & DP_SH_RECOVERY, flags & DP_SH_RTO);
	sh->tcp.flags |= DP_SH_RECOVERY | DP_SH_STAMP | flags;
	/* Karn: what is resent tells no round-trip time, but by its timestamp. */
	sh->tcp.flags &= ~(DP_SH_TIMED | DP_SH_STAMPED | DP_SH_PTO);
	sh->tcp.recover = sh->tcp.nxt;
	sh->tcp.rtx = sh->tcp.una;
	sh->tcp.rtx_nxt = sh->tcp.nxt;
	sh->tcp.budget = 1;
	if (flags & DP_SH_RTO) {
		sh->tcp.dupacks = 0;
		sh->tcp.dup_thresh = DUP_THRESH; /* perhaps it was too high to see this */
		sh->tcp.flags &= ~DP_SH_PROBED;
	}
	recovery_count_locked(sh);
}

/*
 * What is on its way was too large for the path: all of it is sent again, in smaller segments. That
 * is no sign of congestion (RFC 1191, 6.5).
 */
static __always_inline void recovery_resegment_locked(struct dp_shadow *sh)
{
	__u32 cwnd = sh->tcp.cwnd, ssthresh = sh->tcp.ssthresh;

	recovery_start_locked(sh, DP_SH_RTO);
	sh->tcp.cwnd = cwnd;
	sh->tcp.ssthresh = ssthresh;
}

static __always_inline void recovery_end_locked(struct dp_shadow *sh)
{
	sh->tcp.flags &= ~(DP_SH_RECOVERY | DP_SH_RTO | DP_SH_STAMP | DP_SH_STAMPED);
	sh->tcp.budget = 0;
	sh->tcp.cwnd_acked = 0;
	sh->tcp.left_out = sack_bytes(sh);
}

/* The resend that the recovery, or a probe, began with: its ACK tells it from the original's. */
static __always_inline void recovery_stamp_locked(struct dp_shadow *sh, __u64 now)
{
	if (sh->tcp.flags & DP_SH_TS)
		sh->tcp.ts_val++;
	sh->tcp.resent_ts = sh->tcp.ts_val;
	sh->tcp.timed_ns = now;
	sh->tcp.flags &= ~(DP_SH_STAMP | DP_SH_TIMED);
	sh->tcp.flags |= DP_SH_STAMPED;
}

/* What the first ACK of something new tells of a stamped resend. */
enum resend_fate {
	RESEND_UNKNOWN = 0, /* there was none, or nothing tells */
	RESEND_WAS_NEEDED,
	RESEND_WAS_SPURIOUS, /* the original had arrived (RFC 3522, 3.2) */
};

static __always_inline enum resend_fate recovery_fate_locked(struct dp_shadow *sh, __u32 tsecr,
							     bool dsack, __u64 now)
{
	bool stamped = sh->tcp.flags & DP_SH_STAMPED;

	sh->tcp.flags &= ~DP_SH_STAMPED;
	if (!stamped)
		return RESEND_UNKNOWN;
	if (!(sh->tcp.flags & DP_SH_TS))
		return dsack ? RESEND_UNKNOWN : RESEND_WAS_NEEDED;
	if (seq_before(tsecr, sh->tcp.resent_ts))
		return RESEND_WAS_SPURIOUS;
	/* An ACK that waited for the resend tells no time (RFC 9293, 3.8.6.3). */
	if (dsack)
		return RESEND_UNKNOWN;
	shadow_rtt_locked(sh, (now - sh->tcp.timed_ns) / 1000);
	return RESEND_WAS_NEEDED;
}

/* The probe is acknowledged. If it repaired a loss, that counts as any other (RFC 8985, 7.4). */
static __always_inline void recovery_probed_locked(struct dp_shadow *sh, enum resend_fate fate)
{
	sh->tcp.flags &= ~DP_SH_PROBED;
	if (fate != RESEND_WAS_NEEDED || (sh->tcp.flags & DP_SH_RECOVERY))
		return;
	congestion_halve_locked(sh, sh->tcp.flight);
	if (sh->tcp.cwnd > sh->tcp.ssthresh)
		sh->tcp.cwnd = sh->tcp.ssthresh;
}

/*
 * What was late has come behind `bytes` that were sent after it, and so it will again: DupThresh
 * grows, at once as far as was seen (Linux' tcp_check_sack_reordering()).
 */
static __always_inline void recovery_reordered_locked(struct dp_shadow *sh, __u32 bytes)
{
	__u32 seen = bytes / sh->tcp.mss + 1, twice = 2 * (__u32)sh->tcp.dup_thresh;

	if (seen < twice)
		seen = twice;
	sh->tcp.dup_thresh = seen < DUP_THRESH_MAX ? seen : DUP_THRESH_MAX;
}

/* After una moved by `acked`: what was waited for is here, or a part of it. */
static __always_inline void recovery_ack_locked(struct dp_shadow *sh, __u32 acked, __u32 tsecr,
						bool dsack, __u64 now)
{
	__u32 first = sh->tcp.una - acked, beyond = sack_high_from(sh, first) - first;
	bool rto = sh->tcp.flags & DP_SH_RTO;
	enum resend_fate fate;

	sh->tcp.dupacks = 0;
	if (sack_reneged(sh)) {
		shadow_forget_sack_locked(sh);
		sh->tcp.rtx = sh->tcp.una;
	}
	range_prune(sh->tcp.sacked, DP_MAX_SACK, &sh->tcp.n_sacked, sh->tcp.una);
	fate = recovery_fate_locked(sh, tsecr, dsack, now);
	if ((sh->tcp.flags & DP_SH_PROBED) && !seq_before(sh->tcp.una, sh->tcp.probe_end))
		recovery_probed_locked(sh, fate);
	if (!(sh->tcp.flags & DP_SH_RECOVERY))
		return;
	if (fate == RESEND_WAS_SPURIOUS) {
		congestion_undo_locked(sh);
		if (!rto)
			recovery_reordered_locked(sh, beyond);
		recovery_end_locked(sh);
	} else if (!seq_before(sh->tcp.una, sh->tcp.recover)) {
		if (!rto)
			sh->tcp.cwnd = sh->tcp.ssthresh;
		recovery_end_locked(sh);
	} else if (!(sh->tcp.flags & (DP_SH_RTO | DP_SH_SACK))) {
		/* A partial acknowledgement shows the next hole (RFC 6582, 3.2). */
		sh->tcp.rtx = sh->tcp.una;
		sh->tcp.budget = 1;
	}
}

/* A duplicate acknowledgement (RFC 5681, 2), or SACK news. */
static __always_inline void recovery_dupack_locked(struct dp_shadow *sh)
{
	__u32 out = sh->tcp.nxt - sh->tcp.una, most = out > sh->tcp.mss ? out - sh->tcp.mss : 0;

	if (sh->tcp.dupacks < 255)
		sh->tcp.dupacks++;
	/* Without SACK each tells that one segment has left the network. */
	if (sh->tcp.flags & (DP_SH_SACK | DP_SH_RTO))
		return;
	sh->tcp.left_out += sh->tcp.mss;
	if (sh->tcp.left_out > most)
		sh->tcp.left_out = most;
}

/* Resends that were lost as well: data that was sent after all of them has arrived. */
static __always_inline bool recovery_lost_again(const struct dp_shadow *sh)
{
	return (sh->tcp.flags & DP_SH_SACK) && !(sh->tcp.flags & DP_SH_RTO) &&
	       seq_after(sh->tcp.rtx, sh->tcp.una) &&
	       sack_bytes_in(sh, sh->tcp.rtx_nxt, sh->tcp.nxt) > sack_enough(sh);
}

/* A loss is found. Duplicates alone tell of none where SACK says more. */
static __always_inline bool recovery_is_due(const struct dp_shadow *sh)
{
	bool sack = sh->tcp.flags & DP_SH_SACK;

	if (sack && seq_after(sh->tcp.lost, sh->tcp.una))
		return true;
	return !(sack && congestion_shuffled(sh)) && sh->tcp.dupacks >= congestion_dup_thresh(sh);
}

/* Does a recovery begin, or begin again? True: it begins. */
static __always_inline bool recovery_detect_locked(struct dp_shadow *sh)
{
	if (sh->tcp.una == sh->tcp.nxt)
		return false;
	if (!(sh->tcp.flags & DP_SH_RECOVERY)) {
		if (!recovery_is_due(sh))
			return false;
		recovery_start_locked(sh, 0);
		return true;
	}
	if (recovery_lost_again(sh)) {
		/* RFC 5681, 4.3: the loss of a resend is another sign of congestion. */
		congestion_halve_locked(sh, sh->tcp.ssthresh);
		sh->tcp.rtx = sh->tcp.una;
		sh->tcp.rtx_nxt = sh->tcp.nxt;
		recovery_count_locked(sh);
	}
	return false;
}

/* Is there something to resend? Moves rtx past what the target has. */
static __always_inline bool recovery_pending_locked(struct dp_shadow *sh)
{
	__u32 rtx = seq_max(sh->tcp.rtx, sh->tcp.una);

	if (!(sh->tcp.flags & DP_SH_RECOVERY))
		return false;
		/* Ranges do not touch: passing one never lands in another. */
#pragma clang loop unroll(disable)
	for (int i = 0; i < DP_MAX_SACK; i++) {
		struct dp_range *r = &sh->tcp.sacked[i];
		__u32 inside =
			~mask_empty(r) & ~mask_before(rtx, r->start) & mask_before(rtx, r->end);

		rtx = mask_select(inside, r->end, rtx);
	}
	sh->tcp.rtx = rtx;
	if (!seq_before(rtx, sh->tcp.recover))
		return false;
	if (sh->tcp.budget)
		return true;
	if (!congestion_room(sh))
		return false;
	/* With nothing new to send, also what may be lost (RFC 6675, 4, NextSeg() (3)). */
	return seq_before(rtx, sh->tcp.lost) ||
	       (!shadow_may_send(sh) && seq_before(rtx, sack_high(sh)));
}

/* [seq, seq + *len) of the stream, or the FIN (*len = 0) at rtx. recovery_pending_locked said yes.
 */
static __always_inline void recovery_next_locked(struct dp_shadow *sh, __u32 *seq, __u32 *len,
						 __u32 max, __u64 now)
{
	__u32 end = seq_min(sh->tcp.end, sh->tcp.recover), n = 1; /* the FIN's number */

	*seq = sh->tcp.rtx;
	*len = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < DP_MAX_SACK; i++) {
		struct dp_range *r = &sh->tcp.sacked[i];
		__u32 above = ~mask_empty(r) & mask_before(sh->tcp.rtx, r->start);

		end = mask_select(above, mask_min(end, r->start), end);
	}
	if (seq_before(sh->tcp.rtx, end)) {
		n = end - sh->tcp.rtx;
		if (n > max)
			n = max;
		*len = n;
	}
	if (seq_before(sh->tcp.rtx, sh->tcp.lost))
		sh->tcp.left_out -= n < sh->tcp.left_out ? n : sh->tcp.left_out;
	sh->tcp.rtx += n;
	sh->tcp.rtx_nxt = sh->tcp.nxt;
	sh->tcp.prr_out += n;
	sh->tcp.budget = 0;
	if (sh->tcp.flags & DP_SH_STAMP)
		recovery_stamp_locked(sh, now);
}

/* RFC 8985, 7.3: the last segment once more, as far as it was one; or the FIN (*len = 0). */
static __always_inline void recovery_probe_locked(struct dp_shadow *sh, __u32 *seq, __u32 *len,
						  __u32 max, __u64 now)
{
	__u32 end = seq_min(sh->tcp.end, sh->tcp.nxt);

	*seq = sh->tcp.nxt - 1;
	*len = 0;
	if (end == sh->tcp.nxt) {
		*len = end - sh->tcp.una < max ? end - sh->tcp.una : max;
		*seq = end - *len;
	}
	sh->tcp.flight = sh->tcp.nxt - sh->tcp.una;
	recovery_stamp_locked(sh, now);
}

#endif
