/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Limits per mapping and target: half-open shadows, and the mirrored bit rate. */
#ifndef DOPPEL_PACE_BPF_H
#define DOPPEL_PACE_BPF_H

#include "maps.bpf.h"

/* The mask stands where the index is used: 6.1 loses bounds over a spill. */
static __always_inline struct dp_target *target_at(struct dp_mapping *m, __u32 t)
{
	__u64 i = t;

	asm volatile("%[i] &= %[mask]" : [i] "+r"(i) : [mask] "i"(DP_MAX_TARGETS - 1));
	return &m->target[i];
}

static __always_inline struct dp_limit *limit_of(__u32 mapping, __u32 target)
{
	__u32 i = mapping * DP_MAX_TARGETS + target;

	return bpf_map_lookup_elem(&limits, &i);
}

static __always_inline void limit_half_open(__u32 mapping, __u32 target, __s64 n)
{
	struct dp_limit *p = limit_of(mapping, target);

	if (p)
		__sync_fetch_and_add(&p->embryonic, n);
}

static __always_inline bool limit_may_open(__u32 mapping, __u32 target)
{
	struct dp_limit *p = limit_of(mapping, target);

	return p && (!cfg.embryonic || p->embryonic < cfg.embryonic);
}

/*
 * Counts bytes against the mapping's ceiling (bits per second). True: this window is over it.
 * Two CPUs may open the same window and forget a packet of each other's: the error is a packet
 * per window, on the side of mirroring it.
 */
static __always_inline bool limit_exceeded(const struct dp_mapping *m, struct dp_limit *p,
					   __u64 now, __u32 bytes)
{
	__u64 limit = m->max_bps / (8 * (1000000000ull / DP_PACE_NS));

	if (now - p->window_ns >= DP_PACE_NS) {
		p->window_ns = now;
		p->bytes = 0;
	}
	if (p->bytes > limit)
		return true;
	__sync_fetch_and_add(&p->bytes, bytes);
	return false;
}

#endif
