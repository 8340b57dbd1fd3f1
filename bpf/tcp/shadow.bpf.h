/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The shadow: a TCP sender without a reader. State and its transitions; nothing here sends.
 * Functions named *_locked run under dp_shadow.lock and call no helper (bpf_spin_lock, 5.1).
 */
#ifndef DOPPEL_SHADOW_BPF_H
#define DOPPEL_SHADOW_BPF_H

#include "maps.bpf.h"
#include "ledger.bpf.h"
#include "flow/limit.bpf.h"
#include "packet/parse.bpf.h"
#include "store.bpf.h"

#define NSEC_PER_MSEC  1000000ull
#define INITIAL_RTO_MS 1000  /* RFC 6298, 2.1 */
#define RCV_WINDOW     65535 /* what we advertise, before scaling: nobody reads, so never less */
#define HEADERS_LEN    40    /* IPv4 and TCP without options */
#define TS_LEN	       12    /* NOP NOP TS */

static __always_inline struct dp_shadow *shadow_at(__u32 slot)
{
	return bpf_map_lookup_elem(&shadows, &slot);
}

static __always_inline bool shadow_is_open(const struct dp_shadow *sh)
{
	return sh->tcp.state != DP_CLOSED && sh->tcp.state != DP_TIME_WAIT;
}

/* Stream bytes (no SYN, no FIN) below una, from the first byte of the stream. */
static __always_inline __u32 snd_una_data(const struct dp_shadow *sh)
{
	__u32 una = sh->tcp.una;

	if (sh->tcp.state == DP_SYN_SENT)
		return una + 1;
	if ((sh->tcp.flags & DP_SH_CLIENT_FIN) && seq_after(una, sh->tcp.fin))
		return sh->tcp.fin;
	return una;
}

/* Bytes that were accepted and are not acknowledged: this shadow's share of in_flight. */
static __always_inline __u32 shadow_pending_locked(const struct dp_shadow *sh)
{
	__u32 n = sh->tcp.end - snd_una_data(sh);

#pragma clang loop unroll(disable)
	for (int i = 0; i < DP_MAX_OOO; i++)
		n += sh->tcp.ooo[i].end - sh->tcp.ooo[i].start;
	return n;
}

/* First sequence number behind everything that was taken, holes or not. */
static __always_inline __u32 shadow_captured_end_locked(const struct dp_shadow *sh)
{
	__u32 captured_end = sh->tcp.end;

#pragma clang loop unroll(disable)
	for (int i = 0; i < DP_MAX_OOO; i++)
		captured_end = mask_select(mask_empty(&sh->tcp.ooo[i]), captured_end,
					   mask_max(captured_end, sh->tcp.ooo[i].end));
	return captured_end;
}

static __always_inline void shadow_forget_ooo_locked(struct dp_shadow *sh)
{
	range_clear(sh->tcp.ooo, DP_MAX_OOO, &sh->tcp.n_ooo);
}

static __always_inline void shadow_forget_sack_locked(struct dp_shadow *sh)
{
	range_clear(sh->tcp.sacked, DP_MAX_SACK, &sh->tcp.n_sacked);
}

/* The client's FIN is known, and nothing is missing before it. */
static __always_inline bool shadow_fin_placed(const struct dp_shadow *sh)
{
	return (sh->tcp.flags & DP_SH_CLIENT_FIN) && !seq_after(sh->tcp.fin, sh->tcp.end);
}

static __always_inline __u32 shadow_window_end(const struct dp_shadow *sh)
{
	return sh->tcp.una + sh->tcp.wnd;
}

/*
 * Where a segment without text belongs. A target may shrink its window, to nothing when it is
 * short of memory (kernel 6.6, e2142825c120), and takes no acknowledgement from beyond it: with
 * SND.NXT there, it would wait for us to read while we wait for it (RFC 9293, 3.10.7.4 and 3.8.6).
 */
static __always_inline __u32 acceptable_seq(const struct dp_shadow *sh)
{
	return seq_min(sh->tcp.nxt, shadow_window_end(sh));
}

/*
 * Is there anything for deliver to send? Sender-side silly window avoidance (RFC 9293,
 * 3.8.6.2.1): less than a segment only when it is all there is, or when nothing is in flight.
 */
static __always_inline bool shadow_may_send(const struct dp_shadow *sh)
{
	__u32 waiting = sh->tcp.end - sh->tcp.nxt;
	__s32 room = shadow_window_end(sh) - sh->tcp.nxt;

	if (sh->tcp.state != DP_ESTABLISHED && sh->tcp.state != DP_CLOSE_WAIT)
		return false;
	/* All in flight may be lost: the path gets nothing new before that is repaired (RFC 5681,
	 * 3.1, with a window of what the timeout's recovery sends).
	 */
	if (sh->tcp.flags & DP_SH_RTO)
		return false;
	if ((__s32)waiting > 0)
		return room > 0 && ((__u32)room >= waiting || room >= sh->tcp.mss ||
				    sh->tcp.nxt == sh->tcp.una);
	return (sh->tcp.flags & DP_SH_CLIENT_FIN) && sh->tcp.nxt == sh->tcp.fin;
}

/* RFC 6298, 5.1 and 5.3: (re)start when something is outstanding. */
static __always_inline void shadow_restart_rto_locked(struct dp_shadow *sh, __u64 now)
{
	sh->tcp.due_ns = now + sh->tcp.rto_ms * NSEC_PER_MSEC;
}

/* From the measured round-trip time, without backing off. */
static __always_inline void shadow_base_rto_locked(struct dp_shadow *sh)
{
	__u32 rto = ((sh->tcp.srtt_us >> 3) + sh->tcp.rttvar_us) >> 10; /* ms, 2 % short */

	if (rto < cfg.rto_min_ms)
		rto = cfg.rto_min_ms;
	if (rto > cfg.rto_max_ms)
		rto = cfg.rto_max_ms;
	sh->tcp.rto_ms = rto;
}

/* RFC 6298, 2.2 and 2.3, with alpha 1/8 and beta 1/4; r in us. */
static __always_inline void shadow_rtt_locked(struct dp_shadow *sh, __u32 r)
{
	if (!sh->tcp.srtt_us) {
		sh->tcp.srtt_us = r << 3;
		sh->tcp.rttvar_us = r << 1;
	} else {
		__s32 err = (__s32)(r - (sh->tcp.srtt_us >> 3));

		sh->tcp.srtt_us += err;
		if (err < 0)
			err = -err;
		sh->tcp.rttvar_us += err - (sh->tcp.rttvar_us >> 2);
	}
	if (!sh->tcp.srtt_us)
		sh->tcp.srtt_us = 1;
	shadow_base_rto_locked(sh);
}

/* True: something is due and nobody watches; the caller calls timer_watch() after unlocking. */
static __always_inline bool timer_wanted_locked(struct dp_shadow *sh)
{
	if (!sh->tcp.due_ns || (sh->tcp.flags & DP_SH_TIMER))
		return false;
	sh->tcp.flags |= DP_SH_TIMER;
	return true;
}

/* What an open shadow leaves behind when it ends. */
struct shadow_totals {
	__u32 pending;
	__u32 holes;	    /* bytes of the client's that never came, below `captured_end` */
	__u32 captured_end; /* behind all that was taken */
	__u32 gen;
	__u8 ended; /* this call ended it */
	__u8 embryonic;
};

/* The one way out of an open state. broken: the target shall be told, whenever it speaks. */
static __always_inline void shadow_end_locked(struct dp_shadow *sh, struct shadow_totals *r,
					      bool broken)
{
	r->ended = 0;
	if (!shadow_is_open(sh))
		return;
	r->ended = 1;
	r->embryonic = sh->tcp.state == DP_SYN_SENT;
	r->gen = sh->gen;
	r->pending = shadow_pending_locked(sh);
	sh->tcp.captured_end = shadow_captured_end_locked(sh);
	r->captured_end = sh->tcp.captured_end;
	r->holes = sh->tcp.captured_end - snd_una_data(sh) - r->pending;
	shadow_forget_ooo_locked(sh);
	shadow_forget_sack_locked(sh);
	sh->tcp.due_ns = 0;
	sh->tcp.state = DP_TIME_WAIT;
	sh->tcp.flags &= ~(DP_SH_DUE | DP_SH_RECOVERY | DP_SH_RTO);
	if (broken)
		sh->tcp.flags |= DP_SH_BROKEN;
	sh->tcp.flags |= DP_SH_RELEASE;
	sh->tcp.refs++; /* shadow_finish() takes it back */
}

/* One reference less. True: the last of a shadow that has ended, and the caller frees slot and
 * chunks. */
static __always_inline bool shadow_put_locked(struct dp_shadow *sh)
{
	sh->tcp.refs--;
	if (sh->tcp.refs || !(sh->tcp.flags & DP_SH_RELEASE))
		return false;
	sh->tcp.flags &= ~DP_SH_RELEASE;
	return true;
}

/* The last that is done to a slot: its memory and its port are free for others after this. */
static __always_inline void shadow_release(struct dp_ledger *l, __u32 slot, __u32 gen,
					   __u32 store_start, __u32 store_end)
{
	/* The chunk that holds the last byte, too. */
	__u32 freed = store_free(slot, gen, store_start, store_end + DP_CHUNK - 1);

	if (l) {
		l->chunks -= freed;
		l->slots--;
	}
	bpf_map_push_elem(&free_slots, &slot, 0);
}

/*
 * No join for `times` pauses of so many ms, and up to twice as long: flows that broke together do
 * not come back together. Rounded up to DP_RETRY_NS. Pure: helpers called in here would cost the
 * callers stack, of which doppel_return has none to spare on 6.1.
 */
static __always_inline void flow_pause(struct dp_flow *flow, __u64 now, __u32 rand, __u32 ms,
				       __u32 times)
{
	__u64 pause = ms + rand % (ms + 1);
	__u32 at = (now + pause * times * NSEC_PER_MSEC) >> DP_RETRY_SHIFT;

	flow->retry = at + 1 ?: 1;
}

/*
 * Takes the flow from its shadow, or from those that wait (slot == DP_NO_SLOT), to be deleted or to
 * wait. The end of the shadow and captures of the same flow may all want that at the same moment:
 * who is told true does what follows from it. An entry that was claimed to be deleted stays so.
 */
static __always_inline bool flow_claim_locked(struct dp_flow *flow, __u32 slot, __u32 gen, __u32 to)
{
	if (flow->slot != slot || (slot != DP_NO_SLOT && flow->gen != gen))
		return false;
	flow->slot = to;
	return true;
}

static __always_inline bool flow_claim(struct dp_flow *flow, __u32 slot, __u32 gen, __u32 to)
{
	bool mine;

	bpf_spin_lock(&flow->lock);
	mine = flow_claim_locked(flow, slot, gen, to);
	bpf_spin_unlock(&flow->lock);
	return mine;
}

/* The flow of a shadow that ended is forgotten, or (1) waits for a chance to join again. */
GLOBAL int shadow_unbind(__u32 slot, const struct shadow_totals *r, __s32 why)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_flow_key key;
	struct dp_flow *flow;
	__u32 rand;
	__u64 now;
	bool mine;

	if (!sh || !r)
		return 0;
	key = sh->ep.key;
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow || flow->slot != slot || flow->gen != r->gen)
		return 0;
	if (why < 0 || shadow_fin_placed(sh)) {
		if (flow_claim(flow, slot, r->gen, DP_SLOT_GONE))
			bpf_map_delete_elem(&flows, &key);
		return 0;
	}
	rand = bpf_get_prandom_u32();
	now = bpf_ktime_get_coarse_ns();
	flow->excluded = DP_EXCLUDED_backoff;
	flow->breaks = sh->tcp.breaks + (sh->tcp.breaks < 255);
	flow->seen_ns = now;
	flow_pause(flow, now, rand, cfg.backoff_ms,
		   1u << (sh->tcp.breaks < 3 ? sh->tcp.breaks : 3));
	bpf_spin_lock(&flow->lock);
	if (!flow->seen) { /* else exclude_late() went on meanwhile */
		flow->next = r->captured_end;
		flow->ack = sh->tcp.ack_last;
		flow->seen = 1;
		flow->ack_valid = sh->tcp.observed != 0;
		flow->push = !!(sh->tcp.flags & DP_SH_PUSH);
	}
	flow->answered_turns = 0;
	mine = flow_claim_locked(flow, slot, r->gen, DP_NO_SLOT);
	bpf_spin_unlock(&flow->lock);
	return mine;
}

/* After shadow_end_locked: counts, unbinds the flow, and releases. why < 0: a clean end. */
GLOBAL int shadow_finish(__u32 slot, const struct shadow_totals *r, __s32 why)
{
	struct dp_shadow *sh = shadow_at(slot);
	__u32 store_start, store_end;
	struct dp_ledger *l;
	bool last_ref;

	if (!sh || !r)
		return 0;
	l = ledger_cell(sh->ep.key.mapping, sh->ep.key.target);
	if (l) {
		l->open--;
		if (why < 0)
			l->closed++;
		else
			l->broken++;
	}
	if (r->embryonic)
		limit_half_open(sh->ep.key.mapping, sh->ep.key.target, -1);
	/* A clean end leaves only what lay beyond a hole. */
	ledger_lose(l, why < 0 ? DP_LOST_client_gap : why, r->pending);
	if (shadow_unbind(slot, r, why) && l) {
		ledger_exclude(l, DP_EXCLUDED_backoff, r->holes);
		l->waiting++;
	}
	bpf_spin_lock(&sh->lock);
	last_ref = shadow_put_locked(sh);
	store_start = sh->tcp.store_start;
	store_end = sh->tcp.store_end;
	bpf_spin_unlock(&sh->lock);
	if (last_ref)
		shadow_release(l, slot, r->gen, store_start, store_end);
	return 0;
}

/* Ends the shadow if it is still the one that the caller means. 1: this call did it. */
GLOBAL int shadow_break(__u32 slot, __u32 gen, __u32 why)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct shadow_totals r = {};

	if (!sh)
		return 0;
	bpf_spin_lock(&sh->lock);
	if (sh->gen == gen)
		shadow_end_locked(sh, &r, true);
	bpf_spin_unlock(&sh->lock);
	if (r.ended)
		shadow_finish(slot, &r, why);
	return r.ended;
}

/* Watches a shadow for which timer_wanted_locked() said so. */
GLOBAL int timer_watch(__u32 slot)
{
	__u32 zero = 0;
	struct shadow_timer *k = bpf_map_lookup_elem(&timer, &zero);
	bool start;

	if (!k || bpf_map_push_elem(&timer_queue, &slot, 0))
		return 0;
	__sync_fetch_and_add(&k->count, 1);
	bpf_spin_lock(&k->lock);
	start = !k->running;
	k->running = 1;
	bpf_spin_unlock(&k->lock);
	if (start)
		bpf_timer_start(&k->timer, TIMER_NS, 0);
	return 0;
}

#endif
