/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The clock that can send. A bpf_timer finds what is due, but only a program that runs with a
 * packet can send. So while anything waits for its time, one packet of ours goes round: out of
 * doppel1, whose qdisc holds it for DP_CLOCK_MS, and back in by doppel0, where deliver sends what
 * is due and lets it go again. When nothing waits it is dropped.
 */
#ifndef DOPPEL_CLOCK_BPF_H
#define DOPPEL_CLOCK_BPF_H

#include "maps.bpf.h"
#include "packet/headers.bpf.h"
#include "packet/txreq.bpf.h"

#define CLOCK_NS      (DP_CLOCK_MS * NSEC_PER_MSEC)
#define CLOCK_DEAD_NS (10 * CLOCK_NS) /* it was lost: doppel1 was down, or its qdisc changed */

/* A full bucket lets the first pass at once. More of them in a row: nothing holds the packet. */
#define CLOCK_EARLY   4
#define CLOCK_REST_NS (100 * CLOCK_NS)

#define CLOCK_SHADOWS 64 /* that one tick serves; bounded work */

static __always_inline struct shadow_timer *clock_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&timer, &zero);
}

static __always_inline bool clock_goes(const struct shadow_timer *k, __u64 now)
{
	return k->hand.goes_round && now - k->hand.tick_ns < CLOCK_DEAD_NS;
}

/* Something waits: if the clock stands still, the next hook that has a packet starts it. */
static __always_inline void clock_want(struct shadow_timer *k)
{
	if (cfg.clock && !clock_goes(k, bpf_ktime_get_ns()))
		k->start = 1;
}

static __always_inline bool clock_is_wanted(void)
{
	struct due_shadow any;
	__u32 slot;

	return !bpf_map_peek_elem(&timer_queue, &slot) || !bpf_map_peek_elem(&due, &any);
}

/* Takes the hand, if nobody has it. Returns its new generation, or 0. */
static __always_inline __u32 clock_take(struct shadow_timer *k, __u64 now)
{
	__u32 gen = 0;

	bpf_spin_lock(&k->lock);
	if (!clock_goes(k, now) && (__s64)(now - k->rest_ns) >= 0) {
		k->hand.goes_round = 1;
		k->hand.tick_ns = now;
		k->hand.gen = (k->hand.gen + 1) & 0xffff ?: 1;
		gen = k->hand.gen;
	}
	bpf_spin_unlock(&k->lock);
	return gen;
}

static __always_inline void clock_stop(struct shadow_timer *k, __u64 rest_ns)
{
	bpf_spin_lock(&k->lock);
	k->hand.goes_round = 0;
	k->hand.early = 0;
	k->rest_ns = rest_ns;
	bpf_spin_unlock(&k->lock);
}

/* Starts the clock with a clone of the packet. */
GLOBAL int clock_start(struct __sk_buff *skb)
{
	struct txreq req = {.kind = TXREQ_START};
	struct shadow_timer *k = clock_state();

	if (!k)
		return 0;
	k->start = 0;
	if (!clock_is_wanted())
		return 0;
	req.gen = clock_take(k, bpf_ktime_get_ns());
	if (req.gen && txreq_clone(skb, &req, 0))
		clock_stop(k, 0);
	return 0;
}

/* By each hook, in its own frame, when it is done with the packet but for its verdict. */
static __always_inline void clock_look(struct __sk_buff *skb)
{
	struct shadow_timer *k = clock_state();

	if (k && k->start)
		clock_start(skb);
}

/* On its way into the qdisc; the verdict of deliver. */
static __always_inline int clock_round(struct __sk_buff *skb, __u32 gen)
{
	struct txreq req = {.kind = TXREQ_TICK, .gen = gen};

	skb->mark = 0;
	skb->priority = DP_CLOCK_HANDLE + 1;
	txreq_write(skb, &req);
	return bpf_redirect(cfg.clock, 0);
}

/* The template becomes the hand: a packet that says nothing, and from which segments can be built.
 * Returns 0, or an error.
 */
GLOBAL int clock_build(struct __sk_buff *skb)
{
	__u8 frame[DP_CLOCK_BYTES] = {};

	frame[12] = ETH_P_IP >> 8;
	frame[IP_OFF] = 0x45;
	if (bpf_skb_change_tail(skb, DP_CLOCK_BYTES, 0))
		return -1;
	return bpf_skb_store_bytes(skb, 0, frame, sizeof(frame), BPF_F_RECOMPUTE_CSUM);
}

/* A request of kind TXREQ_START; the verdict. */
static __always_inline int clock_begin(struct __sk_buff *skb)
{
	struct shadow_timer *k = clock_state();
	__u32 gen = txreq_gen(skb);

	if (!k)
		return TC_ACT_SHOT;
	if (clock_build(skb)) {
		clock_stop(k, 0);
		return TC_ACT_SHOT;
	}
	return clock_round(skb, gen);
}

static long clock_serve_one(__u32 i, struct __sk_buff **skb)
{
	struct txreq req = {.kind = TXREQ_WORK};
	struct due_shadow d;

	if (bpf_map_pop_elem(&due, &d))
		return 1;
	req.slot = d.slot;
	req.gen = d.gen;
	txreq_clone(*skb, &req, 0);
	return 0;
}

/* Is this the hand that counts, and may it go on? */
static __always_inline bool clock_ticks(struct shadow_timer *k, __u32 gen, __u64 now)
{
	bool mine, spins = false;

	bpf_spin_lock(&k->lock);
	mine = k->hand.goes_round && k->hand.gen == gen;
	if (mine) {
		if (now - k->hand.tick_ns >= CLOCK_NS / 2)
			k->hand.early = 0;
		else
			spins = ++k->hand.early > CLOCK_EARLY;
		k->hand.tick_ns = now;
	}
	bpf_spin_unlock(&k->lock);
	if (spins)
		clock_stop(k, now + CLOCK_REST_NS);
	return mine && !spins;
}

/* A request of kind TXREQ_TICK; the verdict. */
static __always_inline int clock_tick(struct __sk_buff *skb)
{
	struct shadow_timer *k = clock_state();
	__u64 now = bpf_ktime_get_ns();
	__u32 gen = txreq_gen(skb);

	if (!k || !clock_ticks(k, gen, now))
		return TC_ACT_SHOT;
	bpf_loop(CLOCK_SHADOWS, clock_serve_one, &skb, 0);
	if (clock_is_wanted())
		return clock_round(skb, gen);
	clock_stop(k, 0);
	/* Whoever put something into the queue before this line saw the clock go. */
	if (clock_is_wanted()) {
		gen = clock_take(k, now);
		if (gen)
			return clock_round(skb, gen);
	}
	return TC_ACT_SHOT;
}

#endif
