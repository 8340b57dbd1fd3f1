/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The clock that can send. A bpf_timer finds what is due, but only a program that runs with a
 * packet can send. So while anything waits for its time, one packet of ours goes round: out of
 * doppel1, whose qdisc holds it for DP_CLOCK_MS, and back in by doppel0, where deliver sends what
 * is due and lets it go again. When nothing waits it is dropped. Another packet, the slow hand,
 * goes round once in DP_CLOCK_SLOW_MS while there are shadows, for their keepalives.
 */
#ifndef DOPPEL_CLOCK_BPF_H
#define DOPPEL_CLOCK_BPF_H

#include "maps.bpf.h"
#include "packet/headers.bpf.h"
#include "packet/template.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/keepalive.bpf.h"

/* It was lost, after so many rounds: doppel1 was down, or its qdisc changed. */
#define CLOCK_DEAD_ROUNDS 10

/* A full bucket lets the first pass at once. More of them in a row: nothing holds the packet. */
#define CLOCK_EARLY   4
#define CLOCK_REST_NS 1000000000ull

#define CLOCK_SHADOWS 64 /* that one tick serves; bounded work */

static __always_inline struct shadow_timer *clock_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&timer, &zero);
}

/* The mask stands where the index is used: 6.1 loses bounds over a spill. */
static __always_inline struct clock_hand *clock_hand(struct shadow_timer *k, __u32 hand)
{
	return &k->hand[hand & CLOCK_SLOW];
}

static __always_inline __u64 clock_period(__u32 hand)
{
	return (hand & CLOCK_SLOW ? DP_CLOCK_SLOW_MS : DP_CLOCK_MS) * NSEC_PER_MSEC;
}

static __always_inline bool clock_goes(struct shadow_timer *k, __u32 hand, __u64 now)
{
	struct clock_hand *h = clock_hand(k, hand);

	return h->goes_round && now - h->tick_ns < CLOCK_DEAD_ROUNDS * clock_period(hand);
}

/* Something waits: if the clock stands still, the next hook that has a packet starts it. */
static __always_inline void clock_want(struct shadow_timer *k)
{
	__u64 now = bpf_ktime_get_ns();

	if (cfg.clock && (!clock_goes(k, CLOCK_FAST, now) ||
			  (cfg.keepalive_s && !clock_goes(k, CLOCK_SLOW, now))))
		k->start = 1;
}

/* `hand`: CLOCK_FAST or CLOCK_SLOW. */
static __always_inline bool clock_is_wanted(__u32 hand)
{
	struct dp_client *all;
	struct due_shadow any;
	__u32 slot;

	if (hand == CLOCK_FAST)
		return !bpf_map_peek_elem(&timer_queue, &slot) || !bpf_map_peek_elem(&due, &any);
	slot = DP_CLIENTS;
	all = bpf_map_lookup_elem(&clients, &slot);
	return cfg.keepalive_s && all && all->ports > 0;
}

/* Takes the hand, if nobody has it. Returns its new generation, or 0. */
static __always_inline __u32 clock_take(struct shadow_timer *k, __u32 hand, __u64 now)
{
	struct clock_hand *h = clock_hand(k, hand);
	__u32 gen = 0;

	bpf_spin_lock(&k->lock);
	if (!clock_goes(k, hand, now) && (__s64)(now - k->rest_ns) >= 0) {
		h->goes_round = 1;
		h->tick_ns = now;
		h->gen = (h->gen + 1) & TXREQ_GEN_MASK ?: 1;
		gen = h->gen;
	}
	bpf_spin_unlock(&k->lock);
	return gen;
}

static __always_inline void clock_stop(struct shadow_timer *k, __u32 hand, __u64 rest_ns)
{
	struct clock_hand *h = clock_hand(k, hand);

	bpf_spin_lock(&k->lock);
	h->goes_round = 0;
	h->early = 0;
	k->rest_ns = rest_ns;
	bpf_spin_unlock(&k->lock);
}

static __always_inline void clock_start_hand(struct __sk_buff *skb, struct shadow_timer *k,
					     __u32 hand)
{
	struct txreq req = {.kind = TXREQ_START, .slot = hand};

	if (!clock_is_wanted(hand))
		return;
	req.gen = clock_take(k, hand, bpf_ktime_get_ns());
	if (req.gen && txreq_clone(skb, &req, 0))
		clock_stop(k, hand, 0);
}

/* Starts the clock with clones of the packet. */
GLOBAL int clock_start(struct __sk_buff *skb)
{
	struct shadow_timer *k = clock_state();

	if (!k)
		return 0;
	k->start = 0;
	clock_start_hand(skb, k, CLOCK_FAST);
	clock_start_hand(skb, k, CLOCK_SLOW);
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
static __always_inline int clock_round(struct __sk_buff *skb, __u32 hand, __u32 gen)
{
	struct txreq req = {.kind = TXREQ_TICK, .slot = hand, .gen = gen};

	skb->mark = 0;
	skb->priority = DP_CLOCK_HANDLE + 1 + hand;
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
	if (template_fit(skb, false, DP_CLOCK_BYTES - OPT_OFF))
		return -1;
	return bpf_skb_store_bytes(skb, 0, frame, sizeof(frame), BPF_F_RECOMPUTE_CSUM);
}

/* A request of kind TXREQ_START; the verdict. */
GLOBAL int clock_begin(struct __sk_buff *skb)
{
	struct shadow_timer *k = clock_state();
	__u32 hand = txreq_slot(skb) & CLOCK_SLOW, gen = txreq_gen(skb);

	if (!k)
		return TC_ACT_SHOT;
	if (clock_build(skb)) {
		clock_stop(k, hand, 0);
		return TC_ACT_SHOT;
	}
	return clock_round(skb, hand, gen);
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
static __always_inline bool clock_ticks(struct shadow_timer *k, __u32 hand, __u32 gen, __u64 now)
{
	struct clock_hand *h = clock_hand(k, hand);
	bool mine, spins = false;

	bpf_spin_lock(&k->lock);
	mine = h->goes_round && h->gen == gen;
	if (mine) {
		if (now - h->tick_ns >= clock_period(hand) / 2)
			h->early = 0;
		else
			spins = ++h->early > CLOCK_EARLY;
		h->tick_ns = now;
	}
	bpf_spin_unlock(&k->lock);
	if (spins)
		clock_stop(k, hand, now + CLOCK_REST_NS);
	return mine && !spins;
}

/* A request of kind TXREQ_TICK; the verdict. */
GLOBAL int clock_tick(struct __sk_buff *skb)
{
	__u32 hand = txreq_slot(skb) & CLOCK_SLOW, gen = txreq_gen(skb);
	struct shadow_timer *k = clock_state();
	__u64 now = bpf_ktime_get_ns();

	if (!k || !clock_ticks(k, hand, gen, now))
		return TC_ACT_SHOT;
	if (hand == CLOCK_FAST)
		bpf_loop(CLOCK_SHADOWS, clock_serve_one, &skb, 0);
	else
		keepalive_tick(skb);
	if (clock_is_wanted(hand))
		return clock_round(skb, hand, gen);
	clock_stop(k, hand, 0);
	/* Whoever put something into the queue before this line saw the clock go. */
	if (clock_is_wanted(hand)) {
		gen = clock_take(k, hand, now);
		if (gen)
			return clock_round(skb, hand, gen);
	}
	return TC_ACT_SHOT;
}

#endif
