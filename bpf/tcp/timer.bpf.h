/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The clock of the data plane: one timer for all shadows that have something due. */
#ifndef DOPPEL_TICK_BPF_H
#define DOPPEL_TICK_BPF_H

#include "tcp/shadow.bpf.h"

/* One look at a shadow that is in the queue. True: there is still something to wait for. */
static __always_inline bool shadow_timeout(__u32 slot)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	struct dp_shadow *sh = shadow_at(slot);
	__s32 why = DP_LOST_target_timeout;
	bool wake = false, due = false;
	struct shadow_totals r = {};
	__u32 gen = 0;

	if (!sh)
		return false;
	bpf_spin_lock(&sh->lock);
	gen = sh->gen;
	if (!shadow_is_open(sh) || !sh->tcp.due_ns) {
		sh->tcp.flags &= ~DP_SH_TIMER;
		bpf_spin_unlock(&sh->lock);
		return false;
	}
	if (now < sh->tcp.due_ns) {
		bpf_spin_unlock(&sh->lock);
		return true;
	}
	wake = true;
	if ((sh->tcp.flags & DP_SH_LINGER) ||
	    sh->tcp.tries >= (sh->tcp.state == DP_SYN_SENT ? cfg.syn_tries : cfg.tries)) {
		if (sh->tcp.flags & DP_SH_LINGER)
			why = -1; /* only the target's FIN is missing: nothing was lost */
		shadow_end_locked(sh, &r, true);
		sh->tcp.flags |= DP_SH_RST_OWED;
		sh->tcp.flags &= ~DP_SH_TIMER;
	} else {
		sh->tcp.tries++;
		/* RFC 6298, 5.4 to 5.6. SACK information may be reneged on (RFC 2018, 8). */
		sh->tcp.flags |= DP_SH_DUE;
		sh->tcp.flags &= ~DP_SH_TIMED; /* Karn */
		shadow_forget_sack_locked(sh);
		if (sh->tcp.state != DP_SYN_SENT && sh->tcp.una != sh->tcp.nxt) {
			sh->tcp.flags |= DP_SH_RECOVERY | DP_SH_RTO;
			sh->tcp.recover = sh->tcp.nxt;
			sh->tcp.rtx = sh->tcp.una;
			sh->tcp.budget = 1;
			sh->tcp.dupacks = 0;
		}
		sh->tcp.rto_ms =
			sh->tcp.rto_ms * 2 > cfg.rto_max_ms ? cfg.rto_max_ms : sh->tcp.rto_ms * 2;
		shadow_restart_rto_locked(sh, now);
		due = true;
	}
	bpf_spin_unlock(&sh->lock);

	if (due)
		ledger_event(ledger_cell(sh->ep.key.mapping, sh->ep.key.target),
			     DP_EVENT_timeout_retransmit);
	if (r.ended)
		shadow_finish(slot, &r, why);
	if (wake) {
		struct dp_retransmit w = {.kind = DP_RETRANSMIT_DUE, .slot = slot, .gen = gen};

		bpf_ringbuf_output(&events, &w, sizeof(w), 0);
	}
	return due;
}

/* The next in the queue. 0: there is none; 1: it is done with; 2: it is back in the queue. */
GLOBAL int timer_one(void)
{
	__u32 slot;

	if (bpf_map_pop_elem(&timer_queue, &slot))
		return 0;
	if (!shadow_timeout(slot) || bpf_map_push_elem(&timer_queue, &slot, 0))
		return 1;
	return 2;
}

#define TIMER_LOOKS 256 /* bounded work: with more of them, a round takes several ticks */

/*
 * Every TIMER_NS while a shadow is in the queue. It cannot transmit (bpf_timer, 5.15): it marks a
 * shadow as due, for the next packet of either side, and wakes the keeper.
 */
static int timer_expired(void *map, __u32 *key, struct shadow_timer *value)
{
	__u32 zero = 0, any;
	struct shadow_timer *k = bpf_map_lookup_elem(&timer, &zero); /* 6.1 locks no other */
	__u32 armed_now;
	bool again = true;
	int done;

	if (!k)
		return 0;
	armed_now = k->count; /* each once: those put back come around behind them */
	for (__u32 i = 0; i < TIMER_LOOKS; i++) {
		if (i >= armed_now)
			break;
		done = timer_one();
		if (!done)
			break;
		if (done == 1)
			__sync_fetch_and_add(&k->count, -1);
	}
	if (bpf_map_peek_elem(&timer_queue, &any)) {
		bpf_spin_lock(&k->lock);
		k->running = 0;
		bpf_spin_unlock(&k->lock);
		/* Whoever queued a shadow before this line saw `running` and left the start to us.
		 */
		again = false;
		if (!bpf_map_peek_elem(&timer_queue, &any)) {
			bpf_spin_lock(&k->lock);
			again = !k->running;
			k->running = 1;
			bpf_spin_unlock(&k->lock);
		}
	}
	if (again)
		bpf_timer_start(&k->timer, TIMER_NS, 0);
	return 0;
}

/*
 * Before the first timer_watch(). Called by capture alone, where all shadows are born: a timer's
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
