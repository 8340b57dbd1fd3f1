/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The end of a shadow: who ends it, counts it and unbinds its flow, and who holds its slot and
 * chunks until then. Functions named *_locked run under dp_shadow.lock.
 */
#ifndef DOPPEL_FINISH_BPF_H
#define DOPPEL_FINISH_BPF_H

#include "flow/flow.bpf.h"
#include "flow/limit.bpf.h"
#include "flow/over.bpf.h"
#include "give.bpf.h"
#include "ledger.bpf.h"
#include "store.bpf.h"
#include "tcp/shadow.bpf.h"

/* Why a shadow ended; from 0 on it broke, and the reason is enum dp_lost. */
enum end_reason {
	END_NONE = -2, /* it did not end */
	END_CLEAN = -1,
};

/* What an open shadow leaves behind when it ends. */
struct shadow_totals {
	__u32 pending; /* bytes that the target has not acknowledged */
	__u32 end;     /* behind all that was taken */
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
	r->pending = shadow_pending(sh);
	r->end = sh->tcp.end;
	shadow_forget_sack_locked(sh);
	sh->tcp.due_ns = 0;
	sh->tcp.state = DP_TIME_WAIT;
	sh->tcp.flags &= ~(DP_SH_DUE | DP_SH_RECOVERY | DP_SH_RTO);
	if (broken)
		sh->tcp.flags |= DP_SH_BROKEN;
	sh->tcp.flags |= DP_SH_RELEASE;
	sh->tcp.refs++; /* shadow_finish() puts it */
}

/*
 * One reference less. True: the last of a shadow that has ended, and the caller frees slot and
 * chunks: shadow_release().
 */
static __always_inline bool shadow_put_locked(struct dp_shadow *sh)
{
	sh->tcp.refs--;
	if (sh->tcp.refs || !(sh->tcp.flags & DP_SH_RELEASE))
		return false;
	sh->tcp.flags &= ~DP_SH_RELEASE;
	return true;
}

/* The last that is done to a slot: its memory and its port are free for others after this. */
static __always_inline void shadow_release(struct dp_ledger *l, struct dp_shadow *sh, __u32 slot)
{
	struct store_part part;

	shadow_part(sh, &part);
	store_free(slot, part.gen, part.chunk, part.n);
	client_count(&sh->ep.key.client, 0, -1, 0);
	if (l)
		l->slots--;
	slot_give_back(slot);
}

/* What ends later was not broken off at what it began with. A guess: servers that wait for the rest
 * of a request wait for seconds, and keep idle connections for one, at least.
 */
#define ABRUPT_NS (500ull * 1000000)
/* More than a server says to what it does not understand; at most 254. Bytes. */
#define ANSWER_MAX 254

/*
 * A flow leaves its shadow. A shadow that began in mid-stream was of no use, perhaps, if the target
 * ended it at once, at the first it heard, and with hardly an answer: what it heard had no meaning
 * without what came before. flow_settle() holds that answer against the source's. `seen_ns` is the
 * time of this end.
 */
static __always_inline void flow_note_end(struct dp_flow *flow, const struct dp_shadow *sh,
					  bool by_target)
{
	__u32 answer = sh->tcp.rcv_nxt - sh->tcp.irs - 1;

	if (sh->tcp.flags & DP_SH_TARGET_FIN)
		answer--;
	flow->answer = answer;
	flow->marks = 0;
	flow->fruitless = sh->tcp.fruitless;
	if (!by_target)
		return;
	if ((sh->tcp.flags & DP_SH_JOINED) && sh->tcp.quiets <= 1 && answer <= ANSWER_MAX &&
	    flow->seen_ns - sh->tcp.opened_ns < ABRUPT_NS)
		flow->marks = DP_FLOW_SUSPECT;
	else
		flow->fruitless = 0;
	if (!answer && sh->tcp.delivered)
		flow->marks |= DP_FLOW_UNANSWERED;
}

/*
 * Its shadow failed, or the target did, `breaks` times before: the target is left alone. Returns
 * when the flow may join again, as dp_flow.retry; 0: at once.
 */
static __always_inline __u32 flow_backs_off(const struct dp_shadow *sh, __s32 why)
{
	__u32 times = 1u << (sh->tcp.breaks < 3 ? sh->tcp.breaks : 3);

	if ((sh->tcp.flags & DP_SH_RESUME) || why == DP_LOST_target_closed)
		return 0;
	return flow_pause(bpf_ktime_get_coarse_ns(), bpf_get_prandom_u32(), cfg.backoff_ms, times);
}

/*
 * The flow of a shadow that has ended waits: its stream goes on at the shadow's end. why: enum
 * end_reason; retry: flow_backs_off().
 */
static __always_inline void flow_waits_locked(struct dp_flow *flow, const struct dp_shadow *sh,
					      __s32 why, __u32 retry)
{
	flow_note_end(flow, sh,
		      why == END_CLEAN || why == DP_LOST_target_reset ||
			      why == DP_LOST_target_closed);
	flow->slot = DP_NO_SLOT;
	flow->breaks = sh->tcp.breaks;
	flow->excluded = DP_EXCLUDED_not_joined;
	flow->retry = retry;
	flow->answered_turns = 0;
	if (retry) {
		flow->excluded = DP_EXCLUDED_backoff;
		flow->breaks += flow->breaks < 255;
	}
	if (flow->seen && !seq_before(flow->next, sh->tcp.end)) /* exclude_late() went on */
		return;
	flow->next = sh->tcp.end;
	flow->ack = sh->tcp.ack_last;
	flow->seen = 1;
	flow->ack_valid = sh->tcp.observed != 0;
	flow->push = !!(sh->tcp.flags & DP_SH_PUSH);
	if (shadow_resumes(sh))
		flow->marks |= DP_FLOW_RESUME;
}

/* The stream of a shadow that ended ended with it: its flow has nothing to wait for. */
static __always_inline bool shadow_is_over(const struct dp_shadow *sh, __s32 why)
{
	return !(sh->tcp.flags & DP_SH_RESUME) && (why == END_CLEAN || shadow_fin_placed(sh));
}

/* What became of the flow of a shadow that ended. */
enum unbound {
	UNBOUND_NOT = 0, /* it was not bound to it any more */
	UNBOUND_WAITS,	 /* for a chance to join again */
	UNBOUND_GONE,	 /* it is forgotten, and the caller counts it out */
};

/* Returns enum unbound. retry: flow_backs_off(), from the caller, who has the stack for it on 6.1.
 */
GLOBAL int shadow_unbind(__u32 slot, __s32 why, __u32 retry)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_flow_key key;
	struct dp_flow *flow;
	bool mine, waits;

	if (!sh)
		return 0;
	key = sh->ep.key;
	sh->tcp.seen_ns = bpf_ktime_get_coarse_ns();
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return 0;
	flow->seen_ns = sh->tcp.seen_ns;
	bpf_spin_lock(&flow->lock);
	mine = flow_claim_locked(flow, slot, sh->gen, DP_SLOT_GONE);
	waits = mine && !shadow_is_over(sh, why);
	if (waits)
		flow_waits_locked(flow, sh, why, retry);
	bpf_spin_unlock(&flow->lock);
	if (mine && !waits)
		return flow_take_out(&key) ? UNBOUND_GONE : UNBOUND_NOT;
	return waits ? UNBOUND_WAITS : UNBOUND_NOT;
}

/* After shadow_end_locked: counts, unbinds the flow, and releases. why: enum end_reason. */
GLOBAL int shadow_finish(__u32 slot, const struct shadow_totals *r, __s32 why)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_ledger *l;
	bool last_ref;
	int unbound;

	if (!sh || !r)
		return 0;
	l = shadow_ledger(sh);
	if (l) {
		l->open--;
		if (why == END_CLEAN)
			l->closed++;
		else
			l->broken++;
		if (why == DP_LOST_target_refused)
			l->last.refused = bpf_ktime_get_coarse_ns();
		if (why == DP_LOST_target_timeout)
			l->last.gave_up = bpf_ktime_get_coarse_ns();
	}
	if (r->embryonic)
		limit_half_open(sh->ep.key.mapping, sh->ep.key.target, -1);
	ledger_lose(l, why == END_CLEAN ? DP_LOST_target_closed : why, r->pending);
	if (shadow_is_over(sh, why)) /* before the flow goes: nothing may come between */
		over_note(&sh->ep.key, sh->tcp.isn, r->end);
	unbound = shadow_unbind(slot, why, flow_backs_off(sh, why));
	if (unbound == UNBOUND_WAITS && l)
		l->waiting++;
	client_count(&sh->ep.key.client, unbound == UNBOUND_GONE ? -1 : 0, 0, -r->embryonic);
	bpf_spin_lock(&sh->lock);
	last_ref = shadow_put_locked(sh);
	bpf_spin_unlock(&sh->lock);
	if (last_ref)
		shadow_release(l, sh, slot);
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

#endif
