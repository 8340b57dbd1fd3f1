/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What keeps a flow from its shadow: limits per mapping and target (half-open shadows, the mirrored
 * bit rate), and the operator's pause.
 */
#ifndef DOPPEL_PACE_BPF_H
#define DOPPEL_PACE_BPF_H

#include "client.bpf.h"
#include "maps.bpf.h"
#include "tcp/shadow.bpf.h"

static __always_inline struct dp_limit *limit_of(__u32 mapping, __u32 target)
{
	return limit_at(mapping * DP_MAX_TARGETS + target);
}

static __always_inline void limit_half_open(__u32 mapping, __u32 target, __s64 n)
{
	struct dp_limit *p = limit_of(mapping, target);

	if (p)
		__sync_fetch_and_add(&p->embryonic, n);
}

/* The clock of dp_limit.rto: units of about a second. */
#define RTO_AGE_SHIFT 30
#define RTO_AGE_MAX   60

static __always_inline void limit_note_rto(__u32 mapping, __u32 target, __u32 rto_ms)
{
	struct dp_limit *p = limit_of(mapping, target);

	if (p)
		p->rto = (bpf_ktime_get_coarse_ns() >> RTO_AGE_SHIFT) << 32 | rto_ms;
}

/*
 * How long a SYN toward the target is waited for, ms: as the round trips of the last minute were
 * (RFC 9040, 8), else RFC 6298, 2.1.
 */
static __always_inline __u32 limit_first_rto(__u32 mapping, __u32 target, __u64 now)
{
	struct dp_limit *p = limit_of(mapping, target);
	__u64 rto = p ? p->rto : 0;

	if (!(__u32)rto || (__u32)rto > INITIAL_RTO_MS ||
	    (now >> RTO_AGE_SHIFT) - (rto >> 32) > RTO_AGE_MAX)
		return INITIAL_RTO_MS;
	return rto;
}

/* The path to the target works: see dp_limit.back_ns. */
static __always_inline void limit_note_back(__u32 mapping, __u32 target, __u64 now)
{
	struct dp_limit *p = limit_of(mapping, target);

	if (p)
		p->back_ns = now;
}

/* Free shadow ports of the target's pools; `taken`: shadows whose slot is not free, of all. */
static __always_inline __s64 limit_ports_left(__u32 mapping, __u32 target, __s64 taken)
{
	__s64 left = (__s64)cfg.slots - taken;
	struct dp_mapping *m;
	struct dp_target *t;
	struct dp_pool *p;
	__u32 i;

	if (cfg.slots == cfg.ports)
		return left;
	m = mapping_at(mapping);
	if (!m)
		return 0;
	t = target_at(m, target);
	left = 0;
	for (i = 0; i < DP_MAX_SOURCES; i++) {
		if (i >= target_pools(t))
			break;
		p = pool_at(target_pool(t, i));
		if (p && (!i || target_pool(t, i) != target_pool(t, 0)))
			left += (__s64)cfg.ports - p->taken;
	}
	return left;
}

/*
 * What keeps this client from one more shadow toward the target: enum dp_excluded, or -1: nothing.
 * known: its flow has a row already.
 */
GLOBAL int limit_refuses(__u32 mapping, __u32 target, const struct dp_addr *client, bool known)
{
	struct dp_client *c, *all = client_at(DP_CLIENTS);
	struct dp_limit *p = limit_of(mapping, target);

	if (!p || !client || !all)
		return DP_EXCLUDED_embryonic;
	c = client_at(client_row(client));
	if (!c ||
	    (cfg.embryonic && !client_may_take(c->embryonic, (__s64)cfg.embryonic - p->embryonic)))
		return DP_EXCLUDED_embryonic;
	if (!known && !client_may_take(c->flows, (__s64)cfg.flows - all->flows))
		return DP_EXCLUDED_table_full;
	if (!client_may_take(c->ports, limit_ports_left(mapping, target, all->ports)))
		return DP_EXCLUDED_ports_exhausted;
	return -1;
}

/*
 * Counts bytes against the mapping's ceiling (bits per second). True: this window is over it.
 * Two CPUs may open the same window and forget a packet of each other's: the error is a packet
 * per window, on the side of mirroring it.
 */
static __always_inline bool limit_exceeded(const struct dp_mapping *m, struct dp_limit *p,
					   __u64 now, __u32 bytes)
{
	__u64 limit = m->max_bps / (8 * (1000000000ull / DP_LIMIT_NS));

	if (now - p->window_ns >= DP_LIMIT_NS) {
		p->window_ns = now;
		p->bytes = 0;
	}
	if (p->bytes > limit)
		return true;
	__sync_fetch_and_add(&p->bytes, bytes);
	return false;
}

/* No new flow is opened, and bytes of open ones are excluded: an operator's wish. */
static __always_inline bool is_paused(void)
{
	__u32 zero = 0;
	struct dp_control *c = bpf_map_lookup_elem(&control, &zero);

	return c && c->paused;
}

#endif
