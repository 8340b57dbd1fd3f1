/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Two connections that write one key at about the same moment may be served in one order by the
 * source and in the other by the target. Who wrote to a key last is remembered by the key's hash,
 * for as long as a copy may be late. What a place cannot tell counts as such a race: a key that is
 * looked at for nothing costs little.
 */
#ifndef DOPPEL_KEYS_RACES_BPF_H
#define DOPPEL_KEYS_RACES_BPF_H

#include "maps.bpf.h"

/* `hash`: of the key, `whose`: the connection. True: another may have written to it lately. */
static __always_inline bool key_is_contended(__u32 hash, __u64 whose, __u64 now)
{
	__u32 i = (hash ^ hash >> 16) & (KEY_WRITERS - 1);
	struct key_writer *w = bpf_map_lookup_elem(&key_writers, &i);
	bool contended;

	if (!w)
		return true;
	bpf_spin_lock(&w->lock);
	/* Another CPU may have written with a later clock than ours. */
	contended = (__s64)(now - w->ns) < (__s64)DP_KEY_RACE_NS &&
		    (w->hash != hash || w->whose != whose);
	w->hash = hash;
	w->whose = whose;
	w->ns = now;
	bpf_spin_unlock(&w->lock);
	return contended;
}

#endif
