/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How chunks go back to the store: a slice at a time, so that a flow that held most of it does not
 * keep a CPU for milliseconds. What is over a slice waits in `freed_ranges`, for the timer, or for
 * who finds the store empty.
 */
#ifndef DOPPEL_GIVE_BPF_H
#define DOPPEL_GIVE_BPF_H

#include "client.bpf.h"
#include "store.bpf.h"
#include "tcp/shadow.bpf.h"

#ifndef STORE_SLICE	/* the fuzzers, whose store is small, have a smaller one */
#define STORE_SLICE 256 /* chunks that one event frees: some ten microseconds */
#endif

/* Starts the timer, unless it runs. Where it cannot be started the next one tries again. */
GLOBAL int timer_run(void)
{
	__u32 zero = 0;
	struct shadow_timer *k = bpf_map_lookup_elem(&timer, &zero);
	bool start;

	if (!k || k->running)
		return 0;
	bpf_spin_lock(&k->lock);
	start = !k->running;
	k->running = 1;
	bpf_spin_unlock(&k->lock);
	if (start && bpf_timer_start(&k->timer, TIMER_NS, 0)) {
		bpf_spin_lock(&k->lock);
		k->running = 0;
		bpf_spin_unlock(&k->lock);
	}
	return 0;
}

/* Chunks that are not the shadow's any more: decided under its lock, freed after it. */
struct store_part {
	__u32 gen;   /* of their keys */
	__u32 chunk; /* number of the first */
	__u32 n;
};

static long store_drop_one(__u32 i, struct store_range *r)
{
	__u32 *known = bpf_map_lookup_elem(&store, &r->key), index;

	if (known) {
		index = *known;
		if (!bpf_map_delete_elem(&store, &r->key)) {
			r->spare += chunk_release(index);
			r->freed++;
		}
	}
	r->key.chunk = chunk_next(r->key.chunk);
	return 0;
}

static __always_inline void store_drop(struct store_range *r, __u32 n)
{
	bpf_loop(n, store_drop_one, r, 0);
	r->left -= n;
	client_count_chunks(r->client, r->target, -r->freed);
	store_unuse(r->spare);
	r->freed = 0;
	r->spare = 0;
}

/*
 * A slice of the range, and the rest of it into the queue. `queued`: it comes from there, and is
 * counted as queued until it is free: else others would see a store that is full meanwhile.
 */
static __always_inline void store_free_slice(struct store_range *r, bool queued)
{
	__u32 n = r->left < STORE_SLICE ? r->left : STORE_SLICE;
	struct dp_fresh *f = store_state();

	store_drop(r, n);
	if (!f)
		return;
	__sync_fetch_and_add(&f->queued, queued ? -n : r->left);
	if (!r->left)
		return;
	if (bpf_map_push_elem(&freed_ranges, r, 0) && bpf_map_push_elem(&freed_ranges, r, 0)) {
		__sync_fetch_and_add(&f->queued, -r->left);
		store_drop(r, r->left); /* the queue is full: late, but not lost */
		return;
	}
	timer_run();
}

/* Frees the `n` chunks of a store_part; slot: its shadow's, which is nobody else's yet. */
GLOBAL int store_free(__u32 slot, __u32 gen, __u32 chunk, __u32 n)
{
	struct store_range r = {.key = {.slot = slot, .gen = gen, .chunk = chunk}, .left = n};
	struct dp_shadow *sh = shadow_at(slot);

	if (!sh)
		return 0;
	r.client = store_row(&sh->ep.key);
	r.target = limit_row(&sh->ep.key);
	store_free_slice(&r, false);
	return 0;
}

/* Frees the next slice of what is queued. 0: nothing is. */
GLOBAL int store_free_queued(void)
{
	struct dp_fresh *f = store_state();
	struct store_range r = {};

	if (!f || bpf_map_pop_elem(&freed_ranges, &r))
		return 0;
	store_free_slice(&r, true);
	return 1;
}

/* All that a shadow has in the store, also the chunk that holds the last byte. */
static __always_inline void shadow_part(const struct dp_shadow *sh, struct store_part *part)
{
	part->gen = sh->tcp.store_gen;
	part->chunk = sh->tcp.store_start >> DP_CHUNK_SHIFT;
	part->n = chunk_distance(part->chunk, (sh->tcp.store_end + DP_CHUNK - 1) >> DP_CHUNK_SHIFT);
}

/* The chunks that lie wholly below snd_una_data(), which is `to`: the target has all of them. */
static __always_inline void give_acked_locked(struct dp_shadow *sh, __u32 to,
					      struct store_part *part)
{
	part->gen = sh->tcp.store_gen;
	part->chunk = sh->tcp.store_start >> DP_CHUNK_SHIFT;
	part->n = chunk_distance(part->chunk, to >> DP_CHUNK_SHIFT);
	sh->tcp.store_start = to;
	sh->tcp.chunks -= part->n; /* nobody stores: free_acked_locked() */
}

/*
 * All that it holds: also the chunk that the next byte would go to, and text beyond a hole. Only
 * where nothing waits for the target and nobody writes. The shadow goes on, and its next chunks get
 * other keys: a capture may write to the same place at once.
 */
static __always_inline void give_all_locked(struct dp_shadow *sh, struct store_part *part)
{
	shadow_part(sh, part);
	sh->tcp.store_gen++;
	sh->tcp.ahead = sh->tcp.end;
	sh->tcp.store_start = sh->tcp.end;
	sh->tcp.store_end = sh->tcp.end;
	sh->tcp.last_chunk = 0;
	sh->tcp.chunks = 0;
}

#endif
