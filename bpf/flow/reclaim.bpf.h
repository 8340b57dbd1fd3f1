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

#define RECLAIM_MORE 8192 /* before the segment's own flow breaks: some ten microseconds */

/*
 * A segment of the shadow `slot` found no room. 1: others made some. Where its client has its
 * share, or its target, only their own flows break for it, and those of targets that hold more.
 */
GLOBAL int store_reclaim(struct __sk_buff *skb, __u32 slot)
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
	none = f->used >= f->limit;
	if (store_free_queued() && none)
		return 1;
	left = store_left(f);
	row = store_row(&sh->ep.key);
	c = client_at(row);
	if (c && !client_may_take(c->chunks, left))
		s.client = row;
	s.target = limit_row(&sh->ep.key);
	l = limit_at(s.target);
	s.target_chunks = l ? l->chunks : 0;
	s.own = !target_may_take(s.target_chunks, left);
	s.share = left > 0 ? STORE_SHARE * left : 0;
	s.from = f->most_slot;
	f->most_chunks = 0;
	sweep_look(0, &s);
	sweep_on(f, &s, RECLAIM_LOOKS);
	/* Open shadows are next to each other: the next search begins where this one ends. */
	s.enough = mine + 1;
	if (!s.given && s.most_chunks <= s.enough)
		sweep_on(f, &s, RECLAIM_MORE);
	if (s.given)
		return 1;
	f->most_slot = s.most_slot;
	if (s.most_chunks <= mine + 1) { /* none of another target that holds more is among them */
		f->most_chunks = s.most_chunks;
		return 0;
	}
	sh = shadow_at(s.most_slot);
	if (sh && !sweep_give(sh, s.most_slot))
		flow_break_shadow(skb, s.most_slot, s.most_gen, DP_LOST_store_full);
	return 1;
}

#endif
