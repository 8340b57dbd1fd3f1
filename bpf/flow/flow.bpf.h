/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The record of a flow: its key, who may change what it is bound to, and when it may join again.
 */
#ifndef DOPPEL_FLOW_BPF_H
#define DOPPEL_FLOW_BPF_H

#include "client.bpf.h"
#include "maps.bpf.h"
#include "packet/parse.bpf.h"

/* What is to become of a captured packet, for one target. */
enum verdict_kind {
	VERDICT_DONE = 0,    /* it is accounted for: nothing is left to do */
	VERDICT_BEGIN,	     /* its flow is not known: one may begin here */
	VERDICT_JOIN,	     /* its flow has no shadow, and may join here */
	VERDICT_SHADOW,	     /* its flow is bound to the shadow `slot`, `gen` */
	VERDICT_EXCLUDE,     /* its flow gets no shadow: reason is enum dp_excluded */
	VERDICT_LATE,	     /* its shadow takes it no more: the same */
	VERDICT_BREAK,	     /* the shadow cannot go on: reason is enum dp_lost */
	VERDICT_ASK,	     /* it does not simply continue the stream: flow_judge() */
	VERDICT_WORK,	     /* it is not taken, but the shadow has more to send now */
	VERDICT_GAP,	     /* the source went on without us, and has every byte below `taken` */
	VERDICT_CLOSED,	     /* the target closed: it goes on in the next shadow */
	VERDICT_SOURCE_GONE, /* the source has no such connection any more */
	VERDICT_BAR,	     /* nobody can copy the stream: reason is enum dp_excluded */
	VERDICT_GONE,	     /* another CPU was first: the flow must be looked at anew */
};

struct verdict {
	__u8 kind;   /* enum verdict_kind */
	__u8 more;   /* the shadow has text beyond a hole */
	__s8 rows;   /* of the flow table, more: flow_bind() tells, and its caller counts */
	__u8 reason; /* EXCLUDE, LATE, BAR: enum dp_excluded; BREAK: enum dp_lost */
	__u32 taken; /* GAP: sequence number */
	__u32 slot;
	__u32 gen;
};

static __always_inline void flow_key(struct dp_flow_key *key, const struct pkt *p)
{
	key->client = p->saddr;
	key->server = p->daddr;
	key->client_port = p->sport;
	key->server_port = p->dport;
	key->mapping = p->mapping;
	key->target = p->target;
	key->copy = p->copy;
}

static __always_inline void flow_found(const struct dp_flow *flow, struct verdict *v)
{
	v->slot = flow->slot;
	v->gen = flow->gen;
	v->kind = VERDICT_SHADOW;
}

/* It has no shadow, and none is on its way. */
static __always_inline bool flow_waits(const struct dp_flow *flow)
{
	return flow->slot == DP_NO_SLOT && !(flow->marks & DP_FLOW_CARRIED);
}

/*
 * Takes the flow from its shadow, or from those that wait (slot == DP_NO_SLOT), to be deleted or to
 * wait. The end of the shadow and captures of the same flow may all want that at the same moment:
 * true is returned to exactly one caller, which must then delete the entry or count it as waiting.
 * An entry that was claimed to be deleted stays so.
 */
static __always_inline bool flow_claim_locked(struct dp_flow *flow, __u32 slot, __u32 gen, __u32 to)
{
	/* One that is on its way to the next shadow does not wait: flow_rebind() alone goes on. */
	if (slot == DP_NO_SLOT ? !flow_waits(flow) : flow->slot != slot || flow->gen != gen)
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

/* Takes a flow that waits, for a shadow that begins at `next`; not where it stands elsewhere. */
static __always_inline bool flow_claim_at(struct dp_flow *flow, __u32 next)
{
	bool mine;

	bpf_spin_lock(&flow->lock);
	mine = flow_waits(flow) && (!flow->seen || flow->next == next);
	if (mine)
		flow->slot = DP_SLOT_GONE;
	bpf_spin_unlock(&flow->lock);
	return mine;
}

/* Why the flow has no shadow, unless it has one by now. */
static __always_inline void flow_exclude(struct dp_flow *flow, __u32 why)
{
	bpf_spin_lock(&flow->lock);
	if (flow_waits(flow))
		flow->excluded = why;
	bpf_spin_unlock(&flow->lock);
}

/*
 * Takes the row of a flow that was claimed out of the table. True: this call did. Who finds such a
 * row may have been faster than who claimed it, and another flow of that key have begun since.
 */
static __always_inline bool flow_take_out(const struct dp_flow_key *key)
{
	struct dp_flow *flow = bpf_map_lookup_elem(&flows, key);

	return flow && flow->slot == DP_SLOT_GONE && !bpf_map_delete_elem(&flows, key);
}

/* Forgets a flow that was claimed. Of several CPUs that want that, one counts it out. */
static __always_inline void flow_delete(const struct dp_flow_key *key)
{
	if (flow_take_out(key))
		client_count(&key->client, -1, 0, 0);
}

/*
 * No join for `times` pauses of so many ms, and up to twice as long: flows that broke together do
 * not come back together. Returns its end as dp_flow.retry, rounded up to DP_RETRY_NS. Pure:
 * helpers called in here would cost the callers stack, of which doppel_return has none to spare
 * on 6.1.
 */
static __always_inline __u32 flow_pause(__u64 now, __u32 rand, __u32 ms, __u32 times)
{
	__u64 pause = ms + rand % (ms + 1);
	__u32 at = (now + pause * times * NSEC_PER_MSEC) >> DP_RETRY_SHIFT;

	return at + 1 ?: 1;
}

static __always_inline bool flow_may_retry(const struct dp_flow *flow)
{
	__u32 now = bpf_ktime_get_coarse_ns() >> DP_RETRY_SHIFT;

	return !flow->retry || (__s32)(now - flow->retry) >= 0;
}

/*
 * The target's own requests, or what its mirror makes of ours: a loop. Clients on this host may
 * have the address of a target that is here as well; plan_checks.cpp sees to it that no mapping of
 * this host takes what such a target gets.
 */
static __always_inline bool comes_from_target(const struct pkt *p, const struct dp_target *target)
{
	return addr_eq(&p->saddr, &target->address) && target->oif != DP_LOOPBACK;
}

/*
 * The user wants none of it: nobody misses its bytes, from the first on (flow/unwanted, and the SYN
 * of who is no client).
 */
static __always_inline bool is_left_out(__u32 why)
{
	return why == DP_EXCLUDED_client_list || why == DP_EXCLUDED_sample ||
	       why == DP_EXCLUDED_dry_run || why == DP_EXCLUDED_own;
}

/*
 * Its kind keeps it from a shadow, for as long as the connection lasts; or what its target made of
 * those that it had, for a while.
 */
static __always_inline bool flow_is_barred(const struct dp_flow *flow)
{
	if (flow->excluded == DP_EXCLUDED_unjoinable)
		return !flow_may_retry(flow);
	return is_left_out(flow->excluded) || flow->excluded == DP_EXCLUDED_tcp_auth ||
	       flow->excluded == DP_EXCLUDED_mptcp || flow->excluded == DP_EXCLUDED_tls ||
	       flow->excluded == DP_EXCLUDED_urgent || flow->excluded == DP_EXCLUDED_loop ||
	       flow->excluded == DP_EXCLUDED_ring;
}

#endif
