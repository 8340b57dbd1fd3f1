/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Congestion control toward the target: NewReno (RFC 5681, RFC 6582) in bytes, with the pipe of
 * RFC 6675 and proportional rate reduction (RFC 6937). Functions named *_locked run under
 * dp_shadow.lock.
 */
#ifndef DOPPEL_CONGESTION_BPF_H
#define DOPPEL_CONGESTION_BPF_H

#include "types.bpf.h"
#include "tcp/seq.bpf.h"

/* RFC 6928, 2; bytes. */
#define INITIAL_SEGMENTS 10
#define INITIAL_BYTES	 14600

#define SSTHRESH_NONE (1u << 30) /* RFC 5681, 3.1: arbitrarily high. No window is larger. */

#define DUP_THRESH     3   /* RFC 5681, 3.2; RFC 6675, 2 */
#define DUP_THRESH_MAX 255 /* where the path reorders; Linux goes to 300 */

static __always_inline __u32 congestion_initial_window(__u32 mss)
{
	__u32 most = INITIAL_BYTES > 2 * mss ? INITIAL_BYTES : 2 * mss;

	return INITIAL_SEGMENTS * mss < most ? INITIAL_SEGMENTS * mss : most;
}

/*
 * The handshake is over; syns: how often the SYN was sent again. Once is no proof of a loss yet
 * (RFC 6928, 2).
 */
static __always_inline void congestion_start_locked(struct dp_shadow *sh, __u32 syns)
{
	sh->tcp.cwnd = syns > 1 ? sh->tcp.mss : congestion_initial_window(sh->tcp.mss);
	sh->tcp.ssthresh = SSTHRESH_NONE;
	sh->tcp.dup_thresh = DUP_THRESH;
}

/* Bytes on their way (RFC 6675, 4). */
static __always_inline __u32 congestion_pipe(const struct dp_shadow *sh)
{
	__u32 out = sh->tcp.nxt - sh->tcp.una;

	return out > sh->tcp.left_out ? out - sh->tcp.left_out : 0;
}

/* Something new is about to be sent, and nxt has not moved yet. */
static __always_inline void congestion_sender_locked(struct dp_shadow *sh, __u8 sender)
{
	if (sh->tcp.una == sh->tcp.nxt)
		sh->tcp.sender = sender;
	else if (sh->tcp.sender != sender)
		sh->tcp.sender = DP_SENDERS;
}

/* Several CPUs have sent what is on its way, each through a queue of its own: it may come in any
 * order. */
static __always_inline bool congestion_shuffled(const struct dp_shadow *sh)
{
	return sh->tcp.sender == DP_SENDERS;
}

/*
 * So many duplicates show a loss. Of several CPUs' segments half has to arrive first (RFC 4653, 3,
 * waits for all of it). With SACK a hole tells more: see recovery_settle_locked().
 */
static __always_inline __u32 congestion_dup_thresh(const struct dp_shadow *sh)
{
	__u32 half = sh->tcp.mss ? (sh->tcp.nxt - sh->tcp.una) / (2 * (__u32)sh->tcp.mss) : 0;

	if (!congestion_shuffled(sh) || half <= sh->tcp.dup_thresh)
		return sh->tcp.dup_thresh;
	return half < DUP_THRESH_MAX ? half : DUP_THRESH_MAX;
}

/* So many more bytes the path takes now. */
static __always_inline __u32 congestion_room(const struct dp_shadow *sh)
{
	__u32 pipe = congestion_pipe(sh);

	return sh->tcp.cwnd > pipe ? sh->tcp.cwnd - pipe : 0;
}

/*
 * `acked` bytes were acknowledged while `flight` were on their way. It grows only where it was what
 * held the sender back: what it has not tried, it does not know (RFC 5681, 3.1; RFC 7661, and
 * Linux' tcp_is_cwnd_limited(), whose rule for slow start this is).
 */
static __always_inline void congestion_grow_locked(struct dp_shadow *sh, __u32 acked, __u32 flight)
{
	if (sh->tcp.cwnd < sh->tcp.ssthresh) {
		if (sh->tcp.cwnd >= 2 * flight)
			return;
		sh->tcp.cwnd += acked;
		if (sh->tcp.cwnd > sh->tcp.ssthresh)
			sh->tcp.cwnd = sh->tcp.ssthresh;
	} else if (flight + sh->tcp.mss > sh->tcp.cwnd) {
		sh->tcp.cwnd_acked += acked;
		if (sh->tcp.cwnd_acked >= sh->tcp.cwnd) {
			sh->tcp.cwnd_acked = 0;
			sh->tcp.cwnd += sh->tcp.mss;
		}
	}
}

/*
 * Something is sent while nothing is on its way. After a timeout's time without any, what the path
 * takes is not known any more (RFC 5681, 4.1). timed_ns: when the last flight was begun, at the
 * latest.
 */
static __always_inline void congestion_idle_locked(struct dp_shadow *sh, __u64 now)
{
	__u32 restart = congestion_initial_window(sh->tcp.mss), kept;

	if (now - sh->tcp.timed_ns <= sh->tcp.rto_ms * NSEC_PER_MSEC || sh->tcp.cwnd <= restart)
		return;
	/* Linux remembers three quarters of it (tcp_current_ssthresh()). */
	kept = sh->tcp.cwnd - (sh->tcp.cwnd >> 2);
	if (sh->tcp.ssthresh < kept)
		sh->tcp.ssthresh = kept;
	sh->tcp.cwnd = restart;
}

/* RFC 5681, eq. 4 */
static __always_inline void congestion_halve_locked(struct dp_shadow *sh, __u32 flight)
{
	__u32 least = 2 * (__u32)sh->tcp.mss;

	sh->tcp.ssthresh = flight / 2 > least ? flight / 2 : least;
	sh->tcp.cwnd_acked = 0;
}

/* A loss was found; it counts once for all that was in flight then. timeout: none of it arrives. */
static __always_inline void congestion_loss_locked(struct dp_shadow *sh, bool again, bool timeout)
{
	sh->tcp.flight = sh->tcp.nxt - sh->tcp.una;
	if (!again) {
		sh->tcp.prior_cwnd = sh->tcp.cwnd;
		sh->tcp.prior_ssthresh = sh->tcp.ssthresh;
		congestion_halve_locked(sh, sh->tcp.flight);
	}
	sh->tcp.prr_delivered = 0;
	sh->tcp.prr_out = 0;
	if (timeout)
		sh->tcp.cwnd = sh->tcp.mss;
}

/* RFC 6937, 3: `delivered` more bytes arrived, and so much may be sent for them. */
static __always_inline void congestion_reduce_locked(struct dp_shadow *sh, __u32 delivered)
{
	__u32 pipe = congestion_pipe(sh), limit, sent = 0;
	__u64 due;

	sh->tcp.prr_delivered += delivered;
	if (pipe > sh->tcp.ssthresh) {
		due = (__u64)sh->tcp.prr_delivered * sh->tcp.ssthresh;
		due = sh->tcp.flight ? (due + sh->tcp.flight - 1) / sh->tcp.flight : due;
		if (due > sh->tcp.prr_out)
			sent = due - sh->tcp.prr_out;
	} else {
		limit = sh->tcp.prr_delivered > sh->tcp.prr_out
				? sh->tcp.prr_delivered - sh->tcp.prr_out
				: 0;
		if (limit < delivered)
			limit = delivered;
		limit += sh->tcp.mss;
		sent = sh->tcp.ssthresh - pipe;
		if (sent > limit)
			sent = limit;
	}
	sh->tcp.cwnd = pipe + sent;
	if (sh->tcp.cwnd < sh->tcp.mss)
		sh->tcp.cwnd = sh->tcp.mss;
}

/* What was taken for lost had arrived (RFC 4015, 3.2): the path takes what it took before. */
static __always_inline void congestion_undo_locked(struct dp_shadow *sh)
{
	if (sh->tcp.cwnd < sh->tcp.prior_cwnd)
		sh->tcp.cwnd = sh->tcp.prior_cwnd;
	if (sh->tcp.ssthresh < sh->tcp.prior_ssthresh)
		sh->tcp.ssthresh = sh->tcp.prior_ssthresh;
}

#endif
