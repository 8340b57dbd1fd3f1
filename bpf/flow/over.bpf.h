/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections that are over here while the source, or the client, does not know it yet: what was
 * lost behind capture is sent again, and must not begin a shadow, which would have it done twice.
 * The map `syns` remembers them.
 */
#ifndef DOPPEL_OVER_BPF_H
#define DOPPEL_OVER_BPF_H

#include "maps.bpf.h"
#include "packet/parse.bpf.h"

/* So long after the end, or after the last of what was sent again. Linux tries for a quarter of an
 * hour, with pauses of 120 s at most (tcp_retries2, TCP_RTO_MAX); in units of END_UNIT.
 */
#define OVER_AGE 120
/* So far back may lie what is sent again: a send window, as large as hosts have them. Bytes. */
#define OVER_WINDOW (16u << 20)

/* The SYN of a connection that has none of its text here yet. */
static __always_inline struct noted_syn *syn_of(const struct dp_flow_key *key)
{
	struct noted_syn *syn = bpf_map_lookup_elem(&syns, key);

	return syn && !(syn->flags & SYN_IS_END) ? syn : NULL;
}

/*
 * The flow is about to be forgotten. Its text ended at `end`; isn: of its own SYN, which may have
 * come again, or `end`.
 */
GLOBAL int over_note(const struct dp_flow_key *flow_key, __u32 isn, __u32 end)
{
	struct noted_syn row = {.isn = end, .flags = SYN_IS_END};
	struct dp_flow_key key;
	struct noted_syn *old;

	if (!flow_key)
		return 0;
	key = *flow_key; /* kernel 6.1 takes a map's key from the stack, not from an argument */
	old = bpf_map_lookup_elem(&syns, &key);
	if (old && ((old->flags & SYN_IS_END) || old->isn == isn))
		bpf_map_delete_elem(&syns, &key);
	row.tsval = bpf_ktime_get_coarse_ns() >> END_UNIT;
	bpf_map_update_elem(&syns, &key, &row, BPF_NOEXIST); /* else the next one has begun */
	return 0;
}

/* Text that a connection which is over sends again. Any other text is of a new one. */
static __always_inline bool is_over(const struct pkt *p, const struct dp_flow_key *key)
{
	struct noted_syn *row = bpf_map_lookup_elem(&syns, key);
	__u32 now = bpf_ktime_get_coarse_ns() >> END_UNIT;

	if (!row || !(row->flags & SYN_IS_END) || !p->payload)
		return false;
	if (now - row->tsval > OVER_AGE || row->isn - (p->seq + p->payload) > OVER_WINDOW)
		return false;
	row->tsval = now;
	return true;
}

/*
 * Where the text ended of a flow that was forgotten while its connection goes on, as a reload has
 * it: a source that is not as far yet has more of it to take, which is counted already. Else `at`,
 * where the source is.
 */
static __always_inline __u32 over_end(const struct dp_flow_key *key, __u32 at)
{
	struct noted_syn *row = bpf_map_lookup_elem(&syns, key);
	__u32 now = bpf_ktime_get_coarse_ns() >> END_UNIT;

	if (!row || !(row->flags & SYN_IS_END) || now - row->tsval > OVER_AGE ||
	    row->isn - at > OVER_WINDOW)
		return at;
	return row->isn;
}

#endif
