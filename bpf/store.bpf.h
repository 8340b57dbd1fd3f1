/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The store: payload at its place in the client's stream, so that segments may come in any
 * order and any range can be read again. A chunk lives from its first byte until the target
 * has acknowledged its last one.
 */
#ifndef DOPPEL_STORE_BPF_H
#define DOPPEL_STORE_BPF_H

#include "maps.bpf.h"
#include "parse.bpf.h"

/* A write never spans more chunks than a full GRO packet: 64 KB, and one for the offset. BIG
 * TCP (kernel 5.19) may hand over up to 512 KB; what exceeds the pieces below is not taken.
 */
#define STORE_MAX_PIECES ((512u << 10) / DP_PIECE + 8)

struct store_write {
	struct __sk_buff *skb;
	__u32 offset; /* of the first byte, in the packet */
	__u32 seq;
	__u32 left; /* bytes */
	__u32 slot;
	__u32 gen;
	__u32 chunks; /* taken */
	__s32 err;
};

static long store_piece(__u32 i, struct store_write *w)
{
	struct dp_store_key key;
	struct dp_chunk *c;
	__u32 pos, n, zero = 0;

	if (!w->left)
		return 1;
	key.slot = w->slot;
	key.gen = w->gen;
	key.chunk = w->seq >> DP_CHUNK_SHIFT;
	c = bpf_map_lookup_elem(&store, &key);
	if (!c) {
		/* Any readable memory of the right size will do as the initial content: what is
		 * read later was written before. dp_meta is the one that nobody writes.
		 */
		void *any = bpf_map_lookup_elem(&meta, &zero);

		if (!any)
			return 1;
		if (!bpf_map_update_elem(&store, &key, any, BPF_NOEXIST))
			w->chunks++;
		c = bpf_map_lookup_elem(&store, &key);
		if (!c) {
			w->err = -1;
			return 1;
		}
	}
	pos = w->seq & (DP_CHUNK - 1);
	n = DP_CHUNK - pos;
	if (n > w->left)
		n = w->left;
	if (n > DP_PIECE)
		n = DP_PIECE;
	/* The masks stand where they are used: a spill in between would lose the bounds. */
	asm volatile("%[n] += -1\n\t%[n] &= 255\n\t%[n] += 1\n\t%[p] &= 2047"
		     : [n] "+r"(n), [p] "+r"(pos));
	if (bpf_skb_load_bytes(w->skb, w->offset, c->data + pos, n)) {
		w->err = -2;
		return 1;
	}
	w->offset += n;
	w->seq += n;
	w->left -= n;
	return 0;
}

/* Copies `left` bytes of the packet into the store. 0, or -1 when the store is full. */
static __always_inline int store_put(struct store_write *w)
{
	if (w->left <= DP_PIECE && (w->seq & (DP_CHUNK - 1)) + w->left <= DP_CHUNK)
		store_piece(0, w);
	else
		bpf_loop(STORE_MAX_PIECES, store_piece, w, 0);
	return w->left ? -1 : 0;
}

struct store_drop {
	struct dp_store_key key;
	__u32 freed;
};

static long store_drop_one(__u32 i, struct store_drop *d)
{
	if (!bpf_map_delete_elem(&store, &d->key))
		d->freed++;
	d->key.chunk = (d->key.chunk + 1) & (0xffffffffu >> DP_CHUNK_SHIFT);
	return 0;
}

/*
 * Chunk numbers wrap at 2^(32 - DP_CHUNK_SHIFT), as sequence numbers do at 2^32. Frees those
 * that lie wholly in [from, to); returns how many there were.
 */
static __always_inline __u32 store_free(__u32 slot, __u32 gen, __u32 from, __u32 to)
{
	__u32 n = (to >> DP_CHUNK_SHIFT) - (from >> DP_CHUNK_SHIFT);
	struct store_drop d = {.key = {.slot = slot, .gen = gen}};

	n &= 0xffffffffu >> DP_CHUNK_SHIFT;
	if (!n || !seq_after(to, from))
		return 0;
	if (n > DP_MAX_CAP / DP_CHUNK + 64)
		n = DP_MAX_CAP / DP_CHUNK + 64;
	d.key.chunk = from >> DP_CHUNK_SHIFT;
	bpf_loop(n, store_drop_one, &d, 0);
	return d.freed;
}

#endif
