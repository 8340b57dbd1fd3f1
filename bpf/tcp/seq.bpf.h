/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Sequence numbers (RFC 9293, 3.4: modulo 2^32) and small sets of ranges of them. */
#ifndef DOPPEL_SEQ_BPF_H
#define DOPPEL_SEQ_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "doppel/abi.h"

static __always_inline bool seq_before(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

static __always_inline bool seq_after(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

static __always_inline __u32 seq_max(__u32 a, __u32 b)
{
	return seq_after(a, b) ? a : b;
}

static __always_inline __u32 seq_min(__u32 a, __u32 b)
{
	return seq_before(a, b) ? a : b;
}

/*
 * The same without a branch, for loops under a lock: no helper may be called there, and with n
 * ranges and a branch each the verifier would walk 2^n ways. All ones if a is before b.
 */
static __always_inline __u32 mask_before(__u32 a, __u32 b)
{
	__u64 x = (__u64)a - b;

	asm volatile("%[x] <<= 32\n\t%[x] s>>= 63" : [x] "+r"(x));
	return x;
}

static __always_inline __u32 mask_select(__u32 mask, __u32 a, __u32 b)
{
	return b ^ ((a ^ b) & mask);
}

static __always_inline __u32 mask_min(__u32 a, __u32 b)
{
	return mask_select(mask_before(a, b), a, b);
}

static __always_inline __u32 mask_max(__u32 a, __u32 b)
{
	return mask_select(mask_before(a, b), b, a);
}

/* All ones if the range is empty. A range is shorter than 2^31. */
static __always_inline __u32 mask_empty(const struct dp_range *r)
{
	return ~mask_before(r->start, r->end);
}

/*
 * Adds [from, to) to a set of n ranges that are disjoint, do not touch, and lie in no order; an
 * unused one is empty. Whatever touches the new range does so at first sight, so one pass is
 * enough. Returns how many numbers are new; *start and *end become the joint range that must be
 * put back with range_put().
 */
static __always_inline __u32 range_take(struct dp_range *set, int n, __u8 *count, __u32 from,
					__u32 to, __u32 *start, __u32 *end)
{
	__u32 added = to - from, s = from, e = to;

#pragma clang loop unroll(disable)
	for (int i = 0; i < n; i++) {
		struct dp_range *r = &set[i];
		__u32 touch =
			~mask_empty(r) & ~mask_before(r->end, from) & ~mask_before(to, r->start);

		added -= (mask_min(r->end, to) - mask_max(r->start, from)) & touch;
		s = mask_select(touch, mask_min(s, r->start), s);
		e = mask_select(touch, mask_max(e, r->end), e);
		r->start &= ~touch;
		r->end &= ~touch;
		*count += touch; /* minus one */
	}
	*start = s;
	*end = e;
	return added;
}

/* Into the first empty place; 0: there is none. */
static __always_inline __u32 range_put(struct dp_range *set, int n, __u8 *count, __u32 start,
				       __u32 end)
{
	__u32 placed = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < n; i++) {
		struct dp_range *r = &set[i];
		__u32 here = mask_empty(r) & ~placed;

		r->start = mask_select(here, start, r->start);
		r->end = mask_select(here, end, r->end);
		placed |= here;
	}
	*count -= placed; /* plus one */
	return placed;
}

static __always_inline void range_clear(struct dp_range *set, int n, __u8 *count)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < n; i++) {
		set[i].start = 0;
		set[i].end = 0;
	}
	*count = 0;
}

/* Forgets what lies below `from`. */
static __always_inline void range_prune(struct dp_range *set, int n, __u8 *count, __u32 from)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < n; i++) {
		__u32 gone = ~mask_empty(&set[i]) & ~mask_before(from, set[i].end);

		set[i].start =
			mask_select(mask_empty(&set[i]), 0, mask_max(set[i].start, from)) & ~gone;
		set[i].end &= ~gone;
		*count += gone; /* minus one */
	}
}

#endif
