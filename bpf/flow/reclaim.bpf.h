/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who makes room for a segment that finds none: first those that need nothing right now, then the
 * flow that holds most of the store; one of a target that holds more than the segment's does goes
 * before those of its own, so that a target that lags costs the others nothing. Without this a few
 * large flows that are silent would keep it, and those that ask would break.
 */
#ifndef DOPPEL_RECLAIM_BPF_H
#define DOPPEL_RECLAIM_BPF_H

#include "flow/detach.bpf.h"
#include "sweep.bpf.h"

#define RECLAIM_LOOKS                                                                              \
	512 /* shadows: bounded work; the one that held most before is one of them                 \
	     */

/* Where none of these holds what it takes, before the segment's own flow breaks: some ten
 * microseconds.
 */
#define RECLAIM_MORE 8192

/* So often, before the segment's own flow breaks. A chunk is free when the last of its holders is
 * gone: those of several targets, and further copies.
 */
#define RECLAIM_TRIES 16

/* Slices of what is queued, before anybody gives or breaks: what several hold, or a range with
 * holes, may free nothing for a while.
 */
#define RECLAIM_SLICES 8

static __always_inline __s64 store_room(const struct dp_fresh *f)
{
	return (__s64)f->limit - f->used;
}

static __always_inline bool store_has_room(const struct dp_fresh *f, __u32 bytes)
{
	return store_room(f) > bytes / DP_CHUNK;
}

/*
 * What a shadow must hold to be worth no longer search: more than `mine`, and its share of what so
 * many tries have to free.
 */
static __always_inline __u32 reclaim_enough(const struct dp_fresh *f, __u32 mine, __u32 bytes,
					    __u32 tries)
{
	__s64 need = bytes / DP_CHUNK - store_room(f);
	__u32 share = need > 0 && tries ? (__u32)need / tries : 0;

	return share > mine + 1 ? share : mine + 1;
}

/*
 * A segment of the shadow `slot` found no room. 1: another one gave what it held. Where its client
 * has its share, or its target, only their own flows break for it, and those of targets that hold
 * more. Of its own kind none breaks where so many tries would not make the room.
 */
GLOBAL int store_reclaim(struct __sk_buff *skb, __u32 slot, __u32 bytes, __u32 tries)
{
	struct sweep s = {.client = SWEEP_ANY_CLIENT};
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_fresh *f = store_state();
	__u32 mine, row;
	struct dp_client *c;
	struct dp_limit *l;
	bool none;
	__s64 left;

	if (!sh || !f)
		return 0;
	mine = sh->tcp.chunks;
	left = store_left(f);
	row = store_row(&sh->ep.key);
	c = client_at(row);
	if (c && !client_may_take(c->chunks, left))
		s.client = row;
	s.target = limit_row(&sh->ep.key);
	l = limit_at(s.target);
	s.target_chunks = l ? l->chunks : 0;
	s.own = !target_may_take(s.target_chunks, left);
	/* Else room is not what the segment lacks. */
	none = !store_has_room(f, bytes) && s.client == SWEEP_ANY_CLIENT && !s.own;
#pragma clang loop unroll(disable)
	for (int i = tries == RECLAIM_TRIES ? RECLAIM_SLICES : 1; i > 0; i--) {
		if (!store_free_queued() || !none)
			break;
		if (store_has_room(f, bytes))
			return 1;
	}
	s.share = left > 0 ? STORE_SHARE * left : 0;
	s.from = f->most_slot;
	f->most_chunks = 0;
	sweep_look(0, &s);
	sweep_on(f, &s, RECLAIM_LOOKS);
	/* Open shadows are next to each other: the next search begins where this one ends. */
	s.enough = reclaim_enough(f, mine, bytes, tries);
	if (!s.given && s.most_chunks <= s.enough)
		sweep_on(f, &s, RECLAIM_MORE);
	if (s.given)
		return 1;
	f->most_slot = s.most_slot;
	if (s.most_chunks <= mine + 1) { /* none of another target that holds more is among them */
		f->most_chunks = s.most_chunks;
		return 0;
	}
	if (!(s.most_chunks & SWEEP_GREATER) &&
	    store_room(f) + (__s64)s.most_chunks * tries <= bytes / DP_CHUNK)
		return 0;
	sh = shadow_at(s.most_slot);
	if (sh && !sweep_give(sh, s.most_slot))
		flow_break_shadow(skb, s.most_slot, s.most_gen, DP_LOST_store_full);
	return 1;
}

/* Are there as many chunks as so many bytes take, with a slice of what is queued if need be? Whose
 * share they are is asked anew.
 */
GLOBAL int store_finds_room(__u32 bytes)
{
	struct dp_fresh *f = store_state();

	return f && (store_has_room(f, bytes) || (store_free_queued() && store_has_room(f, bytes)));
}

/* A segment of so many bytes, of the shadow `slot`, found no room. True: others made it. Not a
 * function: the calls below are as deep as the kernel has them (MAX_CALL_FRAMES).
 */
static __always_inline bool store_make_room(struct __sk_buff *skb, __u32 slot, __u32 bytes)
{
#pragma clang loop unroll(disable)
	for (int i = RECLAIM_TRIES; i > 0; i--) {
		if (!store_reclaim(skb, slot, bytes, i))
			return false;
		if (store_finds_room(bytes))
			return true;
	}
	return false;
}

#endif
