/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * While the store is short, shadows that need nothing right now give what they hold: one at rest
 * its last chunk, and one whose client has long been silent its text beyond a hole.
 */
#ifndef DOPPEL_SWEEP_BPF_H
#define DOPPEL_SWEEP_BPF_H

#include "give.bpf.h"

#define SWEEP_LOOKS 256 /* shadows, each TIMER_NS */
/* A client that still is there sends again what the source lacks, sooner than that for the first
 * seven times (RFC 6298, from 200 ms on).
 */
#define SILENT_NS (30ull * 1000000000)

struct sweep {
	__u64 silent_ns;     /* seen before this: silent */
	__u32 from;	     /* slot */
	__u32 share;	     /* text beyond a hole is given by who holds more chunks; none: ~0 */
	__u32 client;	     /* row of `clients` whose shadow is looked for that holds most */
	__u32 target;	     /* row of `limits` for whose shadow room is looked for */
	__u32 own;	     /* that target has its share: the room is its own shadows' to make */
	__s64 target_chunks; /* what it holds */
	__u32 enough;	     /* the first that counts for more than this will do; 0: look at all */
	__u32 given;	     /* chunks */
	__u32 most_slot;
	__u32 most_gen;
	__u32 most_chunks; /* SWEEP_GREATER: it is one of a target that holds more */
};
#define SWEEP_ANY_CLIENT DP_CLIENTS
#define SWEEP_NO_TARGET	 0x3fffffffffffffffll
#define SWEEP_GREATER	 (1u << 31)

/*
 * What a shadow counts for that holds `held` chunks, where room is looked for; 0: it is not to be
 * broken. First comes whose target holds more than twice as much as the target that wants room
 * does.
 */
static __always_inline __u32 sweep_rank(const struct sweep *s, const struct dp_shadow *sh,
					__u32 held)
{
	__u32 target = limit_row(&sh->ep.key);
	struct dp_limit *l = limit_at(target);

	if (target != s->target && l && l->chunks > 2 * s->target_chunks)
		return held | SWEEP_GREATER;
	if ((s->own && target != s->target) ||
	    (s->client != SWEEP_ANY_CLIENT && s->client != store_row(&sh->ep.key)))
		return 0;
	return held;
}

/* The shadow gives all it has, if nothing waits for the target. */
static __always_inline bool sweep_give(struct dp_shadow *sh, __u32 slot)
{
	struct store_part part;
	bool given;

	bpf_spin_lock(&sh->lock);
	given = !sh->tcp.refs && sh->tcp.chunks && shadow_is_open(sh) && !shadow_pending(sh) &&
		!(sh->tcp.flags & DP_SH_CARRY);
	if (given)
		give_all_locked(sh, &part);
	bpf_spin_unlock(&sh->lock);
	if (given)
		store_free(slot, part.gen, part.chunk, part.n);
	return given;
}

static long sweep_look(__u32 i, struct sweep *s)
{
	__u32 slot = (s->from + i) % cfg.slots, held, gen, rank;
	struct dp_shadow *sh = shadow_at(slot);

	if (!sh)
		return 1;
	gen = sh->gen;
	held = sh->tcp.chunks;
	if (!held || !shadow_is_open(sh))
		return 0;
	if (!shadow_pending(sh) && (!shadow_has_ahead(sh) || held > s->share ||
				    (__s64)(sh->tcp.seen_ns - s->silent_ns) < 0)) {
		if (sweep_give(sh, slot))
			s->given += held;
		return s->given >= STORE_SLICE;
	}
	rank = sweep_rank(s, sh, held);
	if (rank <= s->most_chunks)
		return 0;
	s->most_slot = slot;
	s->most_gen = gen;
	s->most_chunks = rank;
	return s->enough && rank > s->enough;
}

/* So many slots from where the last one stopped. */
static __always_inline void sweep_on(struct dp_fresh *f, struct sweep *s, __u32 looks)
{
	__u32 looked;

	s->silent_ns = bpf_ktime_get_coarse_ns() - SILENT_NS;
	s->from = f->cursor;
	looked = bpf_loop(looks < cfg.slots ? looks : cfg.slots, sweep_look, s, 0);
	f->cursor = (s->from + looked) % cfg.slots;
	f->to_look -= looked < f->to_look ? looked : f->to_look;
}

/*
 * The timer has more to do for the store: it is short, or was, and not every shadow has been looked
 * at since.
 */
static __always_inline bool sweep_is_wanted(void)
{
	struct dp_fresh *f = store_state();

	return f && (f->to_look || store_is_short());
}

/* One tick of the timer. */
GLOBAL int store_sweep(void)
{
	struct sweep s = {
		.share = ~0u, .client = SWEEP_ANY_CLIENT, .target_chunks = SWEEP_NO_TARGET};
	struct dp_fresh *f = store_state();

	if (!f)
		return 0;
	if (store_is_short())
		f->to_look = cfg.slots;
	if (f->to_look)
		sweep_on(f, &s, SWEEP_LOOKS);
	return 0;
}

#endif
