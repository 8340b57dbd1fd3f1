/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Loss toward the target. Found by duplicate acknowledgements and SACK (RFC 5681, 6675), else
 * by timeout (RFC 6298); repaired from the store, one segment per hole and recovery. What the
 * client sends again is never a reason: the source's losses are not the target's.
 */
#ifndef DOPPEL_RECOVERY_BPF_H
#define DOPPEL_RECOVERY_BPF_H

#include "packet/parse.bpf.h"
#include "tcp/shadow.bpf.h"

#define DUP_THRESH 3 /* RFC 5681, 3.2; RFC 6675, 2 */

/* Highest byte, exclusive, that the target reported beyond una; una if none. */
static __always_inline __u32 sack_high(const struct dp_shadow *sh)
{
	__u32 high = sh->tcp.una;

#pragma clang loop unroll(disable)
	for (int i = 0; i < DP_MAX_SACK; i++)
		high = mask_select(mask_empty(&sh->tcp.sacked[i]), high,
				   mask_max(high, sh->tcp.sacked[i].end));
	return high;
}

static __always_inline __u32 sack_bytes(const struct dp_shadow *sh)
{
	__u32 n = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < DP_MAX_SACK; i++)
		n += sh->tcp.sacked[i].end - sh->tcp.sacked[i].start;
	return n;
}

/* RFC 2018: takes the blocks that lie in what is outstanding. True: one told something new. */
static __always_inline bool sack_locked(struct dp_shadow *sh, const struct tcp_options *opt,
					bool *dsack)
{
	__u32 added = 0;

	*dsack = false;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 4; i++) {
		__u32 from = opt->sack[i].start, to = opt->sack[i].end, start, end;

		if (i >= opt->n_sack)
			break;
		if (i == 0 && !seq_after(to, sh->tcp.una)) /* RFC 2883, 4 */
			*dsack = true;
		/* By distance: half the sequence space beyond nxt is before it (RFC 9293, 3.4). */
		if (!seq_before(from, to) || seq_before(from, sh->tcp.una) ||
		    to - sh->tcp.una > sh->tcp.nxt - sh->tcp.una)
			continue;
		added |= range_take(sh->tcp.sacked, DP_MAX_SACK, &sh->tcp.n_sacked, from, to,
				    &start, &end);
		range_put(sh->tcp.sacked, DP_MAX_SACK, &sh->tcp.n_sacked, start, end);
	}
	return added;
}

/* All up to nxt is looked at again. flags: DP_SH_RTO, or 0. */
static __always_inline void recovery_start_locked(struct dp_shadow *sh, __u32 flags)
{
	sh->tcp.flags |= DP_SH_RECOVERY | flags;
	sh->tcp.flags &= ~DP_SH_TIMED; /* Karn: what is resent tells no round-trip time */
	sh->tcp.recover = sh->tcp.nxt;
	sh->tcp.rtx = sh->tcp.una;
	sh->tcp.budget = 1;
	sh->tcp.dupacks = 0;
}

/* After una moved. */
static __always_inline void recovery_ack_locked(struct dp_shadow *sh)
{
	sh->tcp.dupacks = 0;
	if (sh->tcp.n_sacked)
		range_prune(sh->tcp.sacked, DP_MAX_SACK, &sh->tcp.n_sacked, sh->tcp.una);
	if (!(sh->tcp.flags & DP_SH_RECOVERY))
		return;
	if (!seq_before(sh->tcp.una, sh->tcp.recover)) {
		sh->tcp.flags &= ~(DP_SH_RECOVERY | DP_SH_RTO);
		return;
	}
	/* A partial acknowledgement: the next hole begins right here (RFC 6582, 3.2). After a
	 * timeout two for one, as slow start would (RFC 5681, 3.1).
	 */
	if (seq_before(sh->tcp.rtx, sh->tcp.una))
		sh->tcp.rtx = sh->tcp.una;
	sh->tcp.budget = sh->tcp.flags & DP_SH_RTO ? 2 : 1;
	if (!(sh->tcp.flags & (DP_SH_RTO | DP_SH_SACK)))
		sh->tcp.rtx = sh->tcp.una;
}

/* A duplicate acknowledgement (RFC 5681, 2), or SACK news. True: a recovery begins. */
static __always_inline bool recovery_dupack_locked(struct dp_shadow *sh)
{
	if (sh->tcp.dupacks < 255)
		sh->tcp.dupacks++;
	if (sh->tcp.flags & DP_SH_RECOVERY)
		return false;
	if (sh->tcp.dupacks < DUP_THRESH && sack_bytes(sh) <= (DUP_THRESH - 1) * (__u32)sh->tcp.mss)
		return false;
	recovery_start_locked(sh, 0);
	return true;
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
	return sh->tcp.budget || seq_before(rtx, sack_high(sh));
}

/* [seq, seq + *len) of the stream, or the FIN (*len = 0) at rtx. recovery_pending_locked said yes.
 */
static __always_inline void recovery_next_locked(struct dp_shadow *sh, __u32 *seq, __u32 *len,
						 __u32 max)
{
	__u32 end = seq_min(sh->tcp.end, sh->tcp.recover);

	*seq = sh->tcp.rtx;
	*len = 0;
	if (seq_before(sh->tcp.rtx, sack_high(sh))) {
#pragma clang loop unroll(disable)
		for (int i = 0; i < DP_MAX_SACK; i++) {
			struct dp_range *r = &sh->tcp.sacked[i];
			__u32 above = ~mask_empty(r) & mask_before(sh->tcp.rtx, r->start);

			end = mask_select(above, mask_min(end, r->start), end);
		}
	} else if (sh->tcp.budget) {
		sh->tcp.budget--;
	}
	if (seq_before(sh->tcp.rtx, end)) {
		*len = end - sh->tcp.rtx;
		if (*len > max)
			*len = max;
		sh->tcp.rtx += *len;
	} else {
		sh->tcp.rtx++; /* the FIN */
	}
}

#endif
