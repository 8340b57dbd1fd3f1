/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counting. A transaction (ledger_open .. ledger_close) touches one per-CPU cell and keeps
 * the identity of dp_ledger in it. Callers run with bottom halves off: the TC hooks and the
 * timer do; the command program only hands a request to doppel0, whose hook does.
 */
#ifndef DOPPEL_LEDGER_BPF_H
#define DOPPEL_LEDGER_BPF_H

#include "maps.bpf.h"

static __always_inline struct dp_ledger *ledger_cell(__u32 mapping, __u32 target)
{
	__u32 i = dp_ledger_cell(mapping, target);

	return bpf_map_lookup_elem(&ledger, &i);
}

static __always_inline struct dp_ledger *ledger_global(void)
{
	__u32 i = DP_LEDGER_GLOBAL;

	return bpf_map_lookup_elem(&ledger, &i);
}

static __always_inline void ledger_open(struct dp_ledger *l)
{
	l->begin++;
	barrier();
}

static __always_inline void ledger_close(struct dp_ledger *l)
{
	barrier();
	l->end++;
}

static __always_inline void ledger_event(struct dp_ledger *l, enum dp_event e)
{
	if (l)
		l->event[e]++;
}

/* Packets of a mapping's clients; a GRO packet counts its segments. */
static __noinline void ledger_captured(__u32 mapping, __u32 target, __u32 packets)
{
	struct dp_ledger *l = ledger_cell(mapping, target);

	if (l)
		l->captured += packets;
}

static __always_inline void ledger_accept(struct dp_ledger *l, __u32 bytes)
{
	if (!l || !bytes)
		return;
	ledger_open(l);
	l->observed += bytes;
	l->in_flight += bytes;
	ledger_close(l);
}

static __always_inline void ledger_deliver(struct dp_ledger *l, __u32 bytes, __u64 now)
{
	if (!l || !bytes)
		return;
	ledger_open(l);
	l->delivered += bytes;
	l->in_flight -= bytes;
	ledger_close(l);
	l->last.acknowledged = now;
}

/* Of UDP: what was sent is delivered, and taken, since nobody tells more of it. */
static __always_inline void ledger_deliver_datagrams(struct dp_ledger *l, __u32 bytes, __u64 now)
{
	ledger_open(l);
	l->observed += bytes;
	l->delivered += bytes;
	ledger_close(l);
	l->last.acknowledged = now;
}

/* A reason that is known at run time only: the index and what was compared stay one register. */
static __always_inline __u64 reason_index(__u32 why)
{
	__u64 i = why;

	asm volatile("" : "+r"(i));
	return i;
}

static __always_inline void ledger_lose(struct dp_ledger *l, enum dp_lost why, __u32 bytes)
{
	__u64 i = reason_index(why);

	if (!l || !bytes || i >= DP_LOST_N)
		return;
	ledger_open(l);
	l->lost[i] += bytes;
	l->in_flight -= bytes;
	ledger_close(l);
	l->last.lost[i] = bpf_ktime_get_coarse_ns();
}

/* Bytes that the source took and capture did not get. */
static __always_inline void ledger_miss(struct dp_ledger *l, __u32 why, __u32 bytes)
{
	__u64 i = reason_index(why);

	if (!l || !bytes || i >= DP_LOST_N)
		return;
	ledger_open(l);
	l->observed += bytes;
	l->lost[i] += bytes;
	ledger_close(l);
	l->last.lost[i] = bpf_ktime_get_coarse_ns();
}

static __always_inline void ledger_exclude(struct dp_ledger *l, __u32 why, __u32 bytes)
{
	__u64 i = reason_index(why);

	if (!l || !bytes || i >= DP_EXCLUDED_N)
		return;
	ledger_open(l);
	l->observed += bytes;
	l->excluded[i] += bytes;
	ledger_close(l);
	l->last.excluded[i] = bpf_ktime_get_coarse_ns();
}

#endif
