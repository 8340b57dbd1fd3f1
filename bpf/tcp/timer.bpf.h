/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The clock of the data plane: one timer for all shadows that have something due, the queue of
 * those, and the store while somebody must look after it.
 */
#ifndef DOPPEL_TIMER_BPF_H
#define DOPPEL_TIMER_BPF_H

#include "flow/limit.bpf.h"
#include "sweep.bpf.h"
#include "tcp/clock.bpf.h"
#include "tcp/finish.bpf.h"
#include "tcp/path_mtu.bpf.h"
#include "tcp/recovery.bpf.h"
#include "tcp/shadow.bpf.h"

/* True: something is due and nobody watches; the caller calls timer_watch() after unlocking. */
static __always_inline bool timer_wanted_locked(struct dp_shadow *sh)
{
	if (!sh->tcp.due_ns || (sh->tcp.flags & DP_SH_TIMER))
		return false;
	sh->tcp.flags |= DP_SH_TIMER;
	return true;
}

/* It is in no queue: the next that is due on it asks for the timer again. */
static __always_inline void timer_unwatch(__u32 slot)
{
	struct dp_shadow *sh = shadow_at(slot);

	if (!sh)
		return;
	bpf_spin_lock(&sh->lock);
	sh->tcp.flags &= ~DP_SH_TIMER;
	bpf_spin_unlock(&sh->lock);
}

/* Watches a shadow for which timer_wanted_locked() said so. */
GLOBAL int timer_watch(__u32 slot)
{
	__u32 zero = 0;
	struct shadow_timer *k = bpf_map_lookup_elem(&timer, &zero);

	if (!k)
		return 0;
	if (bpf_map_push_elem(&timer_queue, &slot, 0)) {
		timer_unwatch(slot);
		return 0;
	}
	__sync_fetch_and_add(&k->count, 1);
	clock_want(k);
	timer_run();
	return 0;
}

/*
 * So many times a SYN, or a flight of three segments at most, is sent again without backing off,
 * and without counting as a try: one segment each time adds nothing to congestion, and what is lost
 * at random need not wait for seconds (Linux' tcp_syn_linear_timeouts and
 * tcp_thin_linear_timeouts).
 */
#define LINEAR_TRIES  4
#define THIN_SEGMENTS 4

/* In dp_shadow.tcp.flags: it was so small at the first timeout in a row, so what did not count then
 * does not count in a flight that has become larger, or has smaller segments, either.
 */
#define SH_THIN (1u << 31)

static __always_inline bool flight_is_thin(const struct dp_shadow *sh)
{
	__u32 flight = sh->tcp.nxt - sh->tcp.una;

	return sh->tcp.state == DP_SYN_SENT || (flight && flight < THIN_SEGMENTS * sh->tcp.mss);
}

static __always_inline __u32 retransmit_linear(const struct dp_shadow *sh)
{
	return sh->tcp.flags & SH_THIN ? LINEAR_TRIES : 0;
}

/* The next timeout is later; after short ones of a SYN, as RFC 6298 has it from its initial value
 * on.
 */
static __always_inline void retransmit_back_off_locked(struct dp_shadow *sh)
{
	if (sh->tcp.tries <= retransmit_linear(sh))
		return;
	if (sh->tcp.state == DP_SYN_SENT && sh->tcp.rto_ms < INITIAL_RTO_MS)
		sh->tcp.rto_ms = INITIAL_RTO_MS;
	sh->tcp.rto_ms *= 2;
	if (sh->tcp.rto_ms > cfg.rto_max_ms)
		sh->tcp.rto_ms = cfg.rto_max_ms;
}

/*
 * A shadow that has measured no round trip yet takes what others have measured. A function of its
 * own, since who calls it has no stack left on 6.1.
 */
GLOBAL int timer_learn(__u32 slot, __u32 gen)
{
	struct dp_shadow *sh = shadow_at(slot);
	__u64 now = bpf_ktime_get_coarse_ns();
	__u32 rto;

	if (!sh)
		return 0;
	rto = limit_first_rto(sh->ep.key.mapping, sh->ep.key.target, now);
	bpf_spin_lock(&sh->lock);
	if (sh->gen == gen && shadow_is_open(sh) && !sh->tcp.srtt_us && rto < sh->tcp.rto_ms &&
	    sh->tcp.tries <= LINEAR_TRIES) {
		sh->tcp.rto_ms = rto;
		if (sh->tcp.due_ns)
			shadow_restart_rto_locked(sh, now);
	}
	bpf_spin_unlock(&sh->lock);
	return 0;
}

/* RFC 6298, 5.4 to 5.6: what is unacknowledged is due again, and the next timeout is later. */
static __always_inline void retransmit_later_locked(struct dp_shadow *sh, __u64 now)
{
	if (!sh->tcp.tries)
		sh->tcp.flags =
			flight_is_thin(sh) ? sh->tcp.flags | SH_THIN : sh->tcp.flags & ~SH_THIN;
	sh->tcp.tries++;
	path_mtu_timeout_locked(sh);
	sh->tcp.flags |= DP_SH_DUE;
	sh->tcp.flags &= ~(DP_SH_TIMED | DP_SH_PROBE); /* Karn */
	if (sh->tcp.state != DP_SYN_SENT && sh->tcp.una != sh->tcp.nxt)
		recovery_start_locked(sh, DP_SH_RTO);
	retransmit_back_off_locked(sh);
	shadow_restart_rto_locked(sh, now);
}

/* Shadows that are tried before their time go one segment each, and all of them within so many
 * TIMER_NS: 1.6 s. What they would fill a queue with, at once, is what they were lost in before.
 */
#define EARLY_LOOKS 64

/*
 * The shadows that an outage stopped have backed off alike: they come back at one moment, most of
 * them are lost in the same queue, and wait twice as long again. But the path is shared, and so is
 * what one of them finds out (RFC 9040): when the target answered another one after this one's
 * last try, this one need not wait on. An eighth of its timeout lies between such tries. They are
 * no timeouts: they do not back off, and do not count.
 */
static __always_inline bool retransmit_early_locked(struct dp_shadow *sh, __u64 now, __u64 back)
{
	__u64 rest = sh->tcp.rto_ms / 8;

	if (rest < cfg.rto_min_ms)
		rest = cfg.rto_min_ms;
	if (sh->tcp.tries < 2 || (sh->tcp.flags & (DP_SH_DUE | DP_SH_LINGER | DP_SH_PTO)) ||
	    (__s64)(back - sh->tcp.timed_ns) <= 0 || now - sh->tcp.timed_ns < rest * NSEC_PER_MSEC)
		return false;
	if (sh->tcp.state != DP_SYN_SENT) {
		if (sh->tcp.una == sh->tcp.nxt)
			return false;
		recovery_start_locked(sh, DP_SH_RTO);
	}
	sh->tcp.flags |= DP_SH_DUE;
	sh->tcp.flags &= ~(DP_SH_TIMED | DP_SH_PROBE); /* Karn */
	return true;
}

/* When the target answered one of its mapping's shadows, if this one may be tried early; or 0. */
static __always_inline __u64 timer_target_back(const struct dp_shadow *sh)
{
	struct shadow_timer *k = clock_state();
	struct dp_limit *p;

	if (sh->tcp.tries < 2 || !k || !k->early)
		return 0;
	p = limit_of(sh->ep.key.mapping, sh->ep.key.target);
	return p ? p->back_ns : 0;
}

static __always_inline void timer_tried_early(const struct dp_shadow *sh)
{
	struct shadow_timer *k = clock_state();

	if (k && k->early)
		k->early--;
	ledger_event(shadow_ledger(sh), DP_EVENT_early_retransmit);
}

/* So many timeouts in a row are one too many. */
static __always_inline bool retransmit_is_over(const struct dp_shadow *sh)
{
	__u32 most = sh->tcp.state == DP_SYN_SENT ? cfg.syn_tries : cfg.tries;

	return sh->tcp.tries >= most + retransmit_linear(sh);
}

/* RFC 8985, 7.3: it is sent by who looks next, and then the timeout runs. True: it is due. */
static __always_inline bool probe_later_locked(struct dp_shadow *sh, __u64 now)
{
	bool due = (sh->tcp.flags & DP_SH_PTO) && sh->tcp.una != sh->tcp.nxt;

	if (due)
		sh->tcp.flags |= DP_SH_DUE | DP_SH_PROBE;
	if (sh->tcp.flags & DP_SH_PTO)
		shadow_restart_rto_locked(sh, now);
	return due;
}

/* Something is to be sent on the shadow: by the clock, or, where it does not go, by the keeper. */
static __always_inline void timer_tell(__u32 slot, __u32 gen)
{
	struct dp_retransmit e = {.kind = DP_RETRANSMIT_DUE, .slot = slot, .gen = gen};
	struct due_shadow d = {.slot = slot, .gen = gen};
	struct shadow_timer *k = clock_state();

	if (!k || !clock_goes(k, CLOCK_FAST, bpf_ktime_get_ns()) || bpf_map_push_elem(&due, &d, 0))
		bpf_ringbuf_output(&events, &e, sizeof(e), 0);
}

#define TIMER_LOOKS 256 /* bounded work: with more of them, a round takes several ticks */

/*
 * Is an acknowledgement that is kept back sent in time: before a target says its answer again,
 * which takes 200 ms of Linux (TCP_RTO_MIN), or less where the user knows of a shorter timeout? The
 * clock must not be known to stand still, and one look be enough for all that are in the queue.
 */
static __always_inline bool timer_is_in_time(__u64 now)
{
	struct shadow_timer *k = clock_state();
	struct clock_hand *h = k ? clock_hand(k, CLOCK_FAST) : NULL;

	if (!cfg.clock || cfg.rto_min_ms < 200 || !h || k->count > TIMER_LOOKS)
		return false;
	return (__s64)(now - k->rest_ns) >= 0 &&
	       (!h->goes_round ||
		(__s64)(now - h->tick_ns) < (__s64)(CLOCK_DEAD_ROUNDS * clock_period(CLOCK_FAST)));
}

/* One look at a shadow that is in the queue. True: there is still something to wait for. */
static __always_inline bool shadow_timeout(__u32 slot)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct dp_shadow *sh = shadow_at(slot);
	__s32 why = DP_LOST_target_timeout;
	bool due = false;
	struct shadow_totals r = {};
	__u64 back;
	__u32 gen;

	if (!sh)
		return false;
	back = timer_target_back(sh);
	bpf_spin_lock(&sh->lock);
	gen = sh->gen;
	if (!shadow_is_open(sh) || !sh->tcp.due_ns) {
		sh->tcp.flags &= ~DP_SH_TIMER;
		bpf_spin_unlock(&sh->lock);
		return false;
	}
	if (now < sh->tcp.due_ns) {
		due = back && retransmit_early_locked(sh, now, back);
		bpf_spin_unlock(&sh->lock);
		if (due) {
			timer_tried_early(sh);
			timer_tell(slot, gen);
		}
		return true;
	}
	if (shadow_holds_ack(sh)) {
		/* Told again until it is sent, which ends it. */
		sh->tcp.due_ns = now + ACK_WAIT_NS;
		bpf_spin_unlock(&sh->lock);
		timer_tell(slot, gen);
		return true;
	}
	if (sh->tcp.flags & DP_SH_PTO) {
		due = probe_later_locked(sh, now);
		bpf_spin_unlock(&sh->lock);
		if (due) {
			ledger_event(shadow_ledger(sh), DP_EVENT_tail_loss_probe);
			timer_tell(slot, gen);
		}
		return true;
	}
	if ((sh->tcp.flags & DP_SH_LINGER) || retransmit_is_over(sh)) {
		if (sh->tcp.flags & DP_SH_LINGER)
			why = END_CLEAN; /* only the target's FIN is missing: nothing was lost */
		if (!(sh->tcp.flags & DP_SH_LINGER) && shadow_may_carry(sh, sh->tcp.una)) {
			/* Nothing since it was quiet: the path has forgotten it meanwhile. */
			sh->tcp.flags |= DP_SH_CARRY;
			shadow_restart_rto_locked(sh, now);
			due = true;
		} else {
			shadow_end_locked(sh, &r, true);
			sh->tcp.flags |= DP_SH_RST_OWED;
			sh->tcp.flags &= ~DP_SH_TIMER;
		}
	} else {
		retransmit_later_locked(sh, now);
		due = true;
	}
	bpf_spin_unlock(&sh->lock);

	if (due)
		ledger_event(shadow_ledger(sh), DP_EVENT_timeout_retransmit);
	if (r.ended)
		shadow_finish(slot, &r, why);
	timer_tell(slot, gen);
	return due;
}

/* Who sends what is due asks for the timer anew. */
static __always_inline void timer_tell_again(__u32 slot)
{
	struct dp_shadow *sh = shadow_at(slot);

	if (sh)
		timer_tell(slot, sh->gen);
}

/* What became of the next slot in the queue. */
enum timer_step {
	TIMER_EMPTY = 0, /* there is none */
	TIMER_LEFT,	 /* it left the queue: nothing is due on it */
	TIMER_BACK,	 /* it is back in the queue */
};

/* Looks at the next slot in the queue; returns enum timer_step. */
GLOBAL int timer_one(void)
{
	__u32 slot;

	if (bpf_map_pop_elem(&timer_queue, &slot))
		return TIMER_EMPTY;
	if (!shadow_timeout(slot))
		return TIMER_LEFT;
	if (!bpf_map_push_elem(&timer_queue, &slot, 0))
		return TIMER_BACK;
	timer_unwatch(slot);
	timer_tell_again(slot);
	return TIMER_LEFT;
}

static __always_inline bool ranges_are_queued(void)
{
	struct store_range any;

	return !bpf_map_peek_elem(&freed_ranges, &any);
}

/* Nothing is left that another tick would have to do. */
static __always_inline bool timer_is_idle(void)
{
	__u32 any;

	return bpf_map_peek_elem(&timer_queue, &any) && !ranges_are_queued() && !sweep_is_wanted();
}

/* Once in TIMER_NS: the shadows that are queued, each once. Those put back come around later. */
static __always_inline void timer_look(struct shadow_timer *k)
{
	__u32 queued = k->count;
	int step;

	k->early = 1 + queued / EARLY_LOOKS;
	for (__u32 i = 0; i < TIMER_LOOKS; i++) {
		if (i >= queued)
			break;
		step = timer_one();
		if (step == TIMER_EMPTY)
			break;
		if (step == TIMER_LEFT)
			__sync_fetch_and_add(&k->count, -1);
	}
	store_sweep();
}

/*
 * Every TIMER_NS while a shadow is in the queue, and more often while chunks wait to be freed. It
 * cannot transmit (bpf_timer, 5.15): it marks a shadow as due, for the next packet of either side,
 * the clock's next tick, or the keeper.
 */
static int timer_expired(void *map, __u32 *key, struct shadow_timer *value)
{
	__u32 zero = 0;
	struct shadow_timer *k = bpf_map_lookup_elem(&timer, &zero); /* 6.1 locks no other */
	__u64 now = bpf_ktime_get_ns();
	bool again = true;

	if (!k)
		return 0;
	store_free_queued();
	if (now - k->looked_ns >= TIMER_NS - SLICE_NS) {
		k->looked_ns = now;
		timer_look(k);
		if (k->count)
			clock_want(k);
	}
	if (timer_is_idle()) {
		bpf_spin_lock(&k->lock);
		k->running = 0;
		bpf_spin_unlock(&k->lock);
		/* Whoever queued a shadow before this line saw `running` and left the start to us.
		 */
		again = false;
		if (!timer_is_idle()) {
			bpf_spin_lock(&k->lock);
			again = !k->running;
			k->running = 1;
			bpf_spin_unlock(&k->lock);
		}
	}
	if (again)
		bpf_timer_start(&k->timer, ranges_are_queued() ? SLICE_NS : TIMER_NS, 0);
	return 0;
}

/*
 * Before the first timer_watch(). Called by capture alone, where all shadows are opened: a timer's
 * callback must be a static function, and of those each linked object has its own.
 */
static __always_inline void timer_prepare(void)
{
	__u32 zero = 0;
	struct shadow_timer *k = bpf_map_lookup_elem(&timer, &zero);

	if (!k || k->ready)
		return;
	bpf_timer_init(&k->timer, &timer, CLOCK_MONOTONIC); /* -EBUSY for all but the first */
	if (!bpf_timer_set_callback(&k->timer, timer_expired))
		k->ready = 1;
}

#endif
