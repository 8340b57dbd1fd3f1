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

/* No TCP sends again for longer than its R2, of which 100 s is the least (RFC 9293, 3.8.3). */
#define OVER_SECONDS 120
/* So far back may lie what is sent again: a send window, as large as hosts have them. Bytes. */
#define OVER_WINDOW (16u << 20)

/* The SYN of a connection that has none of its text here yet. */
static __always_inline struct noted_syn *syn_of(const struct dp_flow_key *key)
{
	struct noted_syn *syn = bpf_map_lookup_elem(&syns, key);

	return syn && !(syn->flags & SYN_IS_END) ? syn : NULL;
}

/* The flow is forgotten; its text ended at `end`. */
GLOBAL int over_note(const struct dp_flow_key *flow_key, __u32 end)
{
	struct noted_syn row = {.isn = end, .flags = SYN_IS_END};
	struct dp_flow_key key;

	if (!flow_key)
		return 0;
	key = *flow_key;  /* kernel 6.1 takes a map's key from the stack, not from an argument */
	if (syn_of(&key)) /* the next one has begun */
		return 0;
	row.tsval = bpf_ktime_get_coarse_ns() >> END_UNIT;
	bpf_map_update_elem(&syns, &key, &row, BPF_ANY);
	return 0;
}

/* Text that a connection which is over sends again. Any other text is of a new one. */
static __always_inline bool is_over(const struct pkt *p, const struct dp_flow_key *key)
{
	struct noted_syn *row = bpf_map_lookup_elem(&syns, key);
	__u32 now = bpf_ktime_get_coarse_ns() >> END_UNIT;

	if (!row || !(row->flags & SYN_IS_END) || !p->payload)
		return false;
	if (now - row->tsval <= OVER_SECONDS && row->isn - (p->seq + p->payload) <= OVER_WINDOW)
		return true;
	bpf_map_delete_elem(&syns, key);
	return false;
}

#endif
