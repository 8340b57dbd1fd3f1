/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments of datagrams: the first alone has ports, and says what becomes of the others. The map
 * `fragments` remembers it.
 */
#ifndef DOPPEL_UDP_FRAGMENTS_BPF_H
#define DOPPEL_UDP_FRAGMENTS_BPF_H

#include "maps.bpf.h"
#include "packet/parse.bpf.h"

/* So long a host waits for the rest (ipfrag_time), and an identification may come again. */
#define FRAGMENT_NS (30ull * NSEC_PER_SEC)

/* What a path doubles comes sooner; whoever sends 65,536 of them a second reuses one in that time.
 */
#define FRAGMENT_AGAIN_NS NSEC_PER_SEC

static __always_inline void fragment_key(struct fragment_key *key, const struct pkt *p)
{
	key->saddr = p->saddr;
	key->daddr = p->daddr;
	key->id = p->seq;
}

static __always_inline void fragment_note(const struct pkt *p, const struct fragment *f)
{
	struct fragment_key key = {};

	fragment_key(&key, p);
	bpf_map_update_elem(&fragments, &key, f, BPF_ANY);
}

/* What the others of its datagram were; NULL: nothing is known of them. */
static __always_inline struct fragment *fragment_of(const struct pkt *p)
{
	struct fragment_key key = {};
	struct fragment *f;

	fragment_key(&key, p);
	f = bpf_map_lookup_elem(&fragments, &key);
	return f && bpf_ktime_get_coarse_ns() - f->ns < FRAGMENT_NS ? f : NULL;
}

/* A target has got the first: it gets the others, too. */
static __noinline void fragment_went(const struct pkt *p)
{
	struct fragment *f = fragment_of(p);

	if (f)
		f->targets |= 1 << (p->target & (DP_MAX_TARGETS - 1));
}

/* A fragment that came before the first one: that has to know, since no copy of it is whole. */
static __always_inline void fragment_came_early(const struct pkt *p)
{
	struct fragment f = {.kind = FRAGMENT_EARLY, .ns = bpf_ktime_get_coarse_ns()};

	fragment_note(p, &f);
}

#endif
