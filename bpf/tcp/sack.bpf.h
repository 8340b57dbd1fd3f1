/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The scoreboard, `sacked`: what the target has beyond una (RFC 2018), and what is lost by it (RFC
 * 6675). Functions named *_locked run under dp_shadow.lock.
 */
#ifndef DOPPEL_SACK_BPF_H
#define DOPPEL_SACK_BPF_H

#include "types.bpf.h"
#include "tcp/congestion.bpf.h"
#include "tcp/seq.bpf.h"

/* Highest byte, exclusive, that the target reported beyond `from`; `from` if none. */
static __always_inline __u32 sack_high_from(const struct dp_shadow *sh, __u32 from)
{
	__u32 high = from;

#pragma clang loop unroll(disable)
	for (int i = 0; i < DP_MAX_SACK; i++)
		high = mask_select(mask_empty(&sh->tcp.sacked[i]), high,
				   mask_max(high, sh->tcp.sacked[i].end));
	return high;
}

static __always_inline __u32 sack_high(const struct dp_shadow *sh)
{
	return sack_high_from(sh, sh->tcp.una);
}

static __always_inline __u32 sack_bytes(const struct dp_shadow *sh)
{
	__u32 n = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < DP_MAX_SACK; i++)
		n += sh->tcp.sacked[i].end - sh->tcp.sacked[i].start;
	return n;
}

/* How many of [from, to) are SACKed. */
static __always_inline __u32 sack_bytes_in(const struct dp_shadow *sh, __u32 from, __u32 to)
{
	__u32 n = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < DP_MAX_SACK; i++) {
		const struct dp_range *r = &sh->tcp.sacked[i];
		__u32 start = mask_max(r->start, from), end = mask_min(r->end, to);

		n += (end - start) & mask_before(start, end) & ~mask_empty(r);
	}
	return n;
}

/* RFC 2018: takes the blocks that lie in what is outstanding. True: one told something new. */
static __always_inline bool sack_locked(struct dp_shadow *sh, const struct tcp_options *opt)
{
	__u32 added = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 4; i++) {
		__u32 from = opt->sack[i].start, to = opt->sack[i].end, start, end;

		if (i >= opt->n_sack)
			break;
		/* By distance: half the sequence space beyond nxt is before it (RFC 9293, 3.4). */
		if (!seq_before(from, to) || !seq_after(from, sh->tcp.una) ||
		    to - sh->tcp.una > sh->tcp.nxt - sh->tcp.una)
			continue;
		added |= range_take(sh->tcp.sacked, DP_MAX_SACK, &sh->tcp.n_sacked, from, to,
				    &start, &end);
		range_put(sh->tcp.sacked, DP_MAX_SACK, &sh->tcp.n_sacked, start, end);
	}
	return added;
}

/* The highest range that begins below `below`; start: una and end: una if there is none. */
static __always_inline struct dp_range sack_next_below(const struct dp_shadow *sh, __u32 below)
{
	struct dp_range next = {.start = sh->tcp.una, .end = sh->tcp.una};

#pragma clang loop unroll(disable)
	for (int i = 0; i < DP_MAX_SACK; i++) {
		const struct dp_range *r = &sh->tcp.sacked[i];
		__u32 higher = ~mask_empty(r) & mask_before(r->start, below) &
			       mask_before(next.start, r->start);

		next.start = mask_select(higher, r->start, next.start);
		next.end = mask_select(higher, r->end, next.end);
	}
	return next;
}

/* With more bytes SACKed above it than this a byte is lost. */
static __always_inline __u32 sack_enough(const struct dp_shadow *sh)
{
	return (congestion_dup_thresh(sh) - 1) * (__u32)sh->tcp.mss;
}

/*
 * The end of what is lost by RFC 6675's IsLost(): above it the target has DupThresh ranges, or more
 * than DupThresh - 1 segments' bytes. una: nothing is.
 */
static __always_inline __u32 sack_lost(const struct dp_shadow *sh)
{
	__u32 thresh = sh->tcp.dup_thresh, want = (thresh - 1) * (__u32)sh->tcp.mss, bytes;
	struct dp_range r = sack_next_below(sh, sh->tcp.nxt + 1);

	bytes = r.end - r.start;
	if (bytes > want)
		return r.start;
	r = sack_next_below(sh, r.start);
	bytes += r.end - r.start;
	if (bytes > want)
		return r.start;
	r = sack_next_below(sh, r.start);
	bytes += r.end - r.start;
	return bytes > want || thresh == DUP_THRESH ? r.start : sh->tcp.una;
}

/* The target dropped what it had reported (RFC 2018, 8): it would have acknowledged this. */
static __always_inline bool sack_reneged(const struct dp_shadow *sh)
{
	__u32 reneged = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < DP_MAX_SACK; i++) {
		const struct dp_range *r = &sh->tcp.sacked[i];

		reneged |= ~mask_empty(r) & ~mask_before(sh->tcp.una, r->start) &
			   mask_before(sh->tcp.una, r->end);
	}
	return reneged;
}

#endif
