/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Text beyond a hole of the client's stream: it is in the store at its place, and each chunk knows
 * which of its bytes are. So any pattern of loss on the client's path is remembered as finely and
 * as far as the source's receive window reaches, and costs nothing while nothing is missing: text
 * that came in order is not marked.
 */
#ifndef DOPPEL_PRESENCE_BPF_H
#define DOPPEL_PRESENCE_BPF_H

#include "store.bpf.h"
#include "tcp/shadow.bpf.h"

#define PRESENCE_WORDS (DP_CHUNK / 64)

/* Chunks that one segment can touch: 512 KB (BIG TCP, kernel 5.19) and a part at either end. */
#define MARK_MAX_CHUNKS ((512u << 10) / DP_CHUNK + 2)
/* Chunks that one event looks at: bounded work, and the next event goes on from there. */
#define RUN_MAX_CHUNKS 512

struct presence_mark {
	struct dp_store_key key;
	__u32 at; /* sequence number */
	__u32 to;
};

/*
 * Arithmetic without a branch, as in tcp/seq.bpf.h: with one for each word the verifier would walk
 * 2^32 ways. All ones if x is negative.
 */
static __always_inline __s64 mask_negative(__s64 x)
{
	asm volatile("%[x] s>>= 63" : [x] "+r"(x));
	return x;
}

/* x, but not less than 0 and not more than 64. */
static __always_inline __u64 clamp_to_word(__s64 x)
{
	x &= ~mask_negative(x);
	x -= 64;
	return 64 + (x & mask_negative(x));
}

/* The n lowest bits; n is 0 .. 64. */
static __always_inline __u64 low_bits(__u64 n)
{
	return ((1ull << (n & 63)) - 1) | -(n >> 6);
}

/* How many bits are set. */
static __always_inline __u64 bit_count(__u64 x)
{
	x -= (x >> 1) & 0x5555555555555555;
	x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
	return (x * 0x0101010101010101) >> 56;
}

/* What counts of the words in dp_chunk.present, for who has the lock: all bits, or none. */
static __always_inline __u64 present_of(const struct dp_chunk *c)
{
	return -(__u64)c->marked;
}

/*
 * The first byte of a chunk at or behind `pos` that is not there; DP_CHUNK: none is missing. A
 * function of its own, as chunk_mark() is: in a callback the verifier would walk its loop again for
 * each state that it tries (since kernel 6.6).
 */
GLOBAL __u32 chunk_first_missing(__u32 value, __u32 pos)
{
	struct dp_chunk *c = chunk_at(value);
	__u64 found = 0, at = DP_CHUNK, marks;

	if (!c)
		return pos;
	bpf_spin_lock(&c->lock);
	marks = present_of(c);
#pragma clang loop unroll(disable)
	for (__u32 w = 0; w < PRESENCE_WORDS; w++) {
		__u64 gone =
			~((c->present[w] & marks) | low_bits(clamp_to_word((__s64)pos - w * 64)));
		__u64 lowest = gone & -gone;
		__u64 here = mask_negative(gone | -gone) & ~found;

		at ^= (at ^ (w * 64 + bit_count(lowest - 1))) & here;
		found |= here;
	}
	bpf_spin_unlock(&c->lock);
	return at;
}

/* Bytes [from, to) of the chunk are there. It may be several shadows', each on a CPU of its own. */
GLOBAL int chunk_mark(__u32 value, __u32 from, __u32 to)
{
	struct dp_chunk *c = chunk_at(value);
	__u64 marks;

	if (!c)
		return 0;
	bpf_spin_lock(&c->lock);
	marks = present_of(c);
	c->marked = 1;
#pragma clang loop unroll(disable)
	for (__u32 w = 0; w < PRESENCE_WORDS; w++)
		c->present[w] =
			(c->present[w] & marks) | (low_bits(clamp_to_word((__s64)to - w * 64)) &
						   ~low_bits(clamp_to_word((__s64)from - w * 64)));
	bpf_spin_unlock(&c->lock);
	return 0;
}

static long mark_chunk(__u32 i, struct presence_mark *m)
{
	__u32 from = m->at & (DP_CHUNK - 1), left = m->to - m->at, to, *index;

	if (!left)
		return 1;
	m->key.chunk = m->at >> DP_CHUNK_SHIFT;
	to = left < DP_CHUNK - from ? from + left : DP_CHUNK;
	index = bpf_map_lookup_elem(&store, &m->key);
	if (!index)
		return 1;
	chunk_mark(*index, from, to);
	m->at += to - from;
	return 0;
}

/* Bytes [from, to) of the shadow's stream, which are in the store, came beyond a hole. */
GLOBAL int presence_mark(__u32 slot, __u32 gen, __u32 from, __u32 to)
{
	struct presence_mark m = {.key = {.slot = slot, .gen = gen}, .at = from, .to = to};

	bpf_loop(MARK_MAX_CHUNKS, mark_chunk, &m, 0);
	return 0;
}

struct presence_run {
	struct dp_store_key key;
	__u32 at; /* sequence number */
	__u32 to;
};

static long run_chunk(__u32 i, struct presence_run *r)
{
	__u32 pos = r->at & (DP_CHUNK - 1), left = r->to - r->at, end, *index;

	if (!left)
		return 1;
	r->key.chunk = r->at >> DP_CHUNK_SHIFT;
	index = bpf_map_lookup_elem(&store, &r->key);
	if (!index)
		return 1;
	end = chunk_first_missing(*index, pos);
	if (end - pos >= left) {
		r->at = r->to;
		return 1;
	}
	r->at += end - pos;
	return end < DP_CHUNK;
}

/*
 * The first byte at or behind `from` that is not there, as far as `to`, or an earlier one where
 * that is too far for one event.
 */
GLOBAL __u32 presence_end(__u32 slot, __u32 gen, __u32 from, __u32 to)
{
	struct presence_run r = {.key = {.slot = slot, .gen = gen}, .at = from, .to = to};

	bpf_loop(RUN_MAX_CHUNKS, run_chunk, &r, 0);
	return r.at;
}

#endif
