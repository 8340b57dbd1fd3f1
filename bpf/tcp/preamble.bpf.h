/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The preamble: what a shadow that joins says before the client's bytes, so that its target takes
 * it for what the client's connection is (logged in, another database).
 *
 * It stands between the SYN and the stream: the SYN's number is so much earlier, and the stream has
 * the client's numbers as ever. Until all of it is acknowledged the shadow stays in SYN-SENT, with
 * DP_SH_PREAMBLE, and the handshake's timer sends it again. So its bytes are in no ledger, window
 * or store.
 */
#ifndef DOPPEL_PREAMBLE_BPF_H
#define DOPPEL_PREAMBLE_BPF_H

#include "maps.bpf.h"
#include "tcp/shadow.bpf.h"

static __always_inline struct dp_preamble *preamble_of(__u32 mapping, __u32 target)
{
	__u32 row = mapping * DP_MAX_TARGETS + target;

	return bpf_map_lookup_elem(&preambles, &row);
}

/* ISS of RFC 9293, 3.3.1: the number of the shadow's own SYN. */
static __always_inline __u32 shadow_iss(const struct dp_shadow *sh)
{
	return sh->tcp.isn - sh->tcp.preamble;
}

/* A shadow that was just bound joins: it has the preamble of its target. Returns its SYN's number.
 */
GLOBAL __u32 preamble_recall(__u32 slot, __u32 gen)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_preamble *p;

	if (!sh)
		return 0;
	p = preamble_of(sh->ep.key.mapping, sh->ep.key.target);
	bpf_spin_lock(&sh->lock);
	if (p && p->len <= sizeof(p->data) && sh->gen == gen && (sh->tcp.flags & DP_SH_JOINED))
		sh->tcp.preamble = p->len;
	bpf_spin_unlock(&sh->lock);
	return shadow_iss(sh);
}

/* Its bytes, for segment_build(): 0, or an error. */
static __always_inline long preamble_read(struct scratch_space *s, const struct dp_shadow *sh,
					  __u32 len)
{
	struct dp_preamble *p = preamble_of(sh->ep.key.mapping, sh->ep.key.target);

	if (!p || !len || len > sizeof(p->data))
		return -1;
	asm volatile("%[n] &= 511" : [n] "+r"(len));
	return bpf_probe_read_kernel(s->data, len, p->data);
}

/* A segment that begins there is the preamble. */
static __always_inline bool is_preamble(const struct dp_shadow *sh, __u32 seq)
{
	return sh->tcp.preamble && seq_before(seq, sh->tcp.isn + 1);
}

#endif
