/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The store: payload at its place in the client's stream, so that segments may come in any
 * order and any range can be read again. A chunk lives from its first byte until the target
 * has acknowledged its last one.
 */
#ifndef DOPPEL_STORE_BPF_H
#define DOPPEL_STORE_BPF_H

#include "client.bpf.h"
#include "maps.bpf.h"
#include "share.bpf.h"
#include "tcp/seq.bpf.h"
#include "tcp/shadow.bpf.h"

/* BIG TCP (kernel 5.19) may hand over up to 512 KB; what exceeds the pieces below is not taken.
 * Four pieces fill a chunk, at most, and one is what others have filled.
 */
#define STORE_MAX_PIECES ((512u << 10) / DP_CHUNK * 5 + 10)

/* A packet's payload on its way into the store. */
struct store_write {
	struct __sk_buff *skb;
	struct dp_shadow *sh;
	__u32 offset; /* of the first byte, in the packet */
	__u32 seq;
	__u32 left; /* bytes */
	__u32 slot;
	__u32 how;  /* TAKE_ */
	__u32 paid; /* so many chunks are counted for the shadow, and not taken yet */
};

#define TAKE_PAID  (1u << 2) /* the chunk is counted for the shadow already */
#define TAKE_NEW   (1u << 3) /* the shadow has none there, as far as is known */
#define TAKE_SHORT (1u << 4) /* one was taken, and the store is short */

/* What store_take() adds to the value. */
#define TOOK_PAID  (1ll << 32) /* the chunk that was counted before */
#define TOOK_SHORT (1ll << 33) /* a chunk, and the store is short */

/*
 * One flow may hold so many times what is still free: alone nearly all of the store, and less the
 * more others need (as switches share a buffer: Choudhury and Hahne, dynamic queue length
 * thresholds).
 */
#define STORE_SHARE 4

/*
 * A chunk that another shadow of the connection holds costs none, and up to so many are had
 * whatever is free. One that holds more lags: it will be the only one to hold them.
 */
#define STORE_JOINS 16

/*
 * The same for all shadows of a target together, so that one that lags leaves room to the others.
 * More than a client's (CLIENT_SHARE): two clients of one target must not meet this bound first.
 */
#define TARGET_SHARE 32

/* Chunks that are free, or will be as soon as somebody comes to it. Queued ones that several hold
 * are counted for each.
 */
static __always_inline __s64 store_left(const struct dp_fresh *f)
{
	__u32 used = f->used, queued = f->queued;

	return (__s64)f->limit - used + (queued < used ? queued : used);
}

/* More than half of the store is in use: who needs no chunk right now gives his back. */
static __always_inline bool store_is_short(void)
{
	struct dp_fresh *f = store_state();

	return f && store_left(f) * 2 < f->limit;
}

/* Chunk numbers wrap at 2^(32 - DP_CHUNK_SHIFT), as sequence numbers do at 2^32. */
#define CHUNK_MASK (0xffffffffu >> DP_CHUNK_SHIFT)

static __always_inline __u32 chunk_next(__u32 chunk)
{
	return (chunk + 1) & CHUNK_MASK;
}

/* How many chunks are in [from, to). */
static __always_inline __u32 chunk_distance(__u32 from, __u32 to)
{
	return (to - from) & CHUNK_MASK;
}

/* May a target whose shadows hold `held` chunks take one more, where `left` are free? */
static __always_inline bool target_may_take(__s64 held, __s64 left)
{
	return left > 0 && held <= TARGET_SHARE * left;
}

/* So many chunks more, or fewer, are the shadow's, and its client's, and its target's. */
GLOBAL int shadow_count(__u32 slot, __s32 n)
{
	struct dp_shadow *sh = shadow_at(slot);

	if (!sh)
		return 0;
	__sync_fetch_and_add(&sh->tcp.chunks, n);
	client_count_chunks(store_row(&sh->ep.key), limit_row(&sh->ep.key), n);
	return 0;
}

/*
 * Notes in dp_fresh that the shadow holds `held` chunks, if it is a better one to break for room
 * than the one that is remembered there. As sweep_rank() has it: first comes whose target
 * holds more than twice as much.
 */
GLOBAL int shadow_note_most(__u32 slot, __u32 held)
{
	struct dp_shadow *sh = shadow_at(slot), *most;
	struct dp_fresh *f = store_state();
	struct dp_limit *l, *its;

	l = sh ? limit_at(limit_row(&sh->ep.key)) : NULL;
	if (!f || !l)
		return 0;
	most = shadow_at(f->most_slot);
	its = most ? limit_at(limit_row(&most->ep.key)) : NULL;
	if (its && its->chunks > 2 * l->chunks)
		return 0;
	if (held > f->most_chunks || (held && its && l->chunks > 2 * its->chunks)) {
		f->most_chunks = held;
		f->most_slot = slot;
	}
	return 0;
}

/*
 * May the shadow have n chunks more, one after the other: has it its share, or its client, or its
 * target, before it takes the last of them?
 */
static __always_inline bool shadow_may_take(const struct dp_shadow *sh, __u32 slot, __u32 n)
{
	__u32 before = n - 1, held = sh->tcp.chunks + before;
	struct dp_fresh *f;
	struct dp_client *c;
	struct dp_limit *l;
	__s64 left;

	shadow_note_most(slot, sh->tcp.chunks); /* what it has: the rest may be refused */
	f = store_state();
	if (!f)
		return false;
	left = store_left(f) - before;
	if (held > STORE_SHARE * left)
		return false;
	c = client_at(store_row(&sh->ep.key));
	if (!c || !client_may_take((__s64)c->chunks + before, left))
		return false;
	l = limit_at(limit_row(&sh->ep.key));
	return l && target_may_take((__s64)l->chunks + before, left);
}

/*
 * n chunks of a packet are counted at once, as far as each of them would be granted. n or 0, and
 * then each asks for itself: some of them may be.
 */
GLOBAL __u32 store_pay(__u32 slot, __u32 n)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_fresh *f = store_state();

	if (!sh || !f || (__u64)f->used + n > f->limit || !shadow_may_take(sh, slot, n))
		return 0;
	__sync_fetch_and_add(&f->used, n);
	shadow_count(slot, n);
	return n;
}

/* The index of a chunk that nobody has, which the caller counts; -1: there is none. */
static __always_inline __s64 chunk_alloc(void)
{
	struct dp_fresh *f = store_state();
	__u32 index, limit;

	if (!f)
		return -1;
	if (!bpf_map_pop_elem(&free_chunks, &index))
		return index; /* one that was used lately is in a cache */
	if (f->next >= f->limit)
		return -1;
	bpf_spin_lock(&f->lock);
	index = f->next;
	limit = f->limit;
	if (index < limit)
		f->next = index + 1;
	bpf_spin_unlock(&f->lock);
	return index < limit ? (__s64)index : -1;
}

/* One more chunk in use, if one is left. */
static __always_inline bool store_use(void)
{
	struct dp_fresh *f = store_state();

	if (!f || f->used >= f->limit)
		return false;
	__sync_fetch_and_add(&f->used, 1);
	return true;
}

/*
 * A chunk for a shadow that has none there: the value of its key, or -1. It is in use, but not yet
 * counted as the shadow's.
 */
static __always_inline __s64 chunk_take(const struct dp_shadow *sh, const struct dp_store_key *key,
					__u32 how)
{
	bool paid = how & TAKE_PAID, may = paid || shadow_may_take(sh, key->slot, 1);
	struct dp_chunk *c;
	__s64 got = -1;

	if ((how & TAKE_FOLLOWS) && (may || sh->tcp.chunks < STORE_JOINS)) {
		got = chunk_join(key->chunk);
		if (got >= 0)
			return got | CHUNK_SHARED;
	}
	if (!may || (!paid && !store_use()))
		return -1;
	got = chunk_alloc();
	c = got < 0 ? NULL : chunk_at(got);
	if (!c) {
		store_unuse(!paid);
		return -1;
	}
	c->marked = 0;
	if (!(how & TAKE_SHARED))
		return got;
	chunk_first_hold(c);
	return got | CHUNK_SHARED;
}

/* The value of the shadow's key for the chunk of that number, or -1: it has none there. */
GLOBAL __s64 store_known(__u32 slot, __u32 chunk)
{
	struct dp_store_key key = {.slot = slot, .chunk = chunk};
	struct dp_shadow *sh = shadow_at(slot);
	__u32 *known;

	if (!sh)
		return -1;
	key.gen = sh->tcp.store_gen; /* nobody changes it while we hold a reference */
	known = bpf_map_lookup_elem(&store, &key);
	return known ? (__s64)*known : -1;
}

/*
 * The value of the shadow's key for the chunk of that number, with a chunk that is taken for it if
 * it has none, or -1. Maybe with TOOK_PAID or TOOK_SHORT.
 */
GLOBAL __s64 store_take(__u32 slot, __u32 chunk, __u32 how)
{
	struct dp_store_key key = {.slot = slot, .chunk = chunk};
	struct dp_shadow *sh = shadow_at(slot);
	__u32 value;
	__s64 got;

	if (!sh)
		return -1;
	got = how & TAKE_NEW ? -1 : store_known(slot, chunk);
	if (got >= 0)
		return got;
	key.gen = sh->tcp.store_gen; /* as in store_known() */
	got = chunk_take(sh, &key, how);
	if (got < 0)
		return store_known(slot, chunk); /* another CPU was first */
	value = got;
	if (bpf_map_update_elem(&store, &key, &value, BPF_NOEXIST)) {
		value = chunk_release(value);
		if (!(how & TAKE_PAID))
			store_unuse(value);
		return store_known(slot, chunk);
	}
	if (how & TAKE_PAID)
		return value | TOOK_PAID;
	shadow_count(slot, 1);
	return value | (store_is_short() ? TOOK_SHORT : 0);
}

/*
 * The value of the chunk that the bytes from w->seq on go to, or -1. A stream grows at its end, so
 * the chunk that was written last is nearly always the one: dp_shadow.last_chunk spares the
 * look-up. It is not freed behind our back, since refs write at `end` or beyond, and what is freed
 * lies below una.
 */
static __always_inline __s64 store_value(struct store_write *w)
{
	volatile __u64 *last =
		&w->sh->tcp.last_chunk; /* value and chunk belong together: one access */
	__u64 tail = *last;
	__u32 chunk = w->seq >> DP_CHUNK_SHIFT;
	__s64 got;

	if (tail >> 32 == chunk + 1)
		return (__u32)tail;
	got = store_take(w->slot, chunk, w->how | (w->paid ? TAKE_PAID : 0));
	if (got < 0)
		return -1;
	if (got & TOOK_PAID)
		w->paid--;
	if (got & TOOK_SHORT)
		w->how |= TAKE_SHORT;
	*last = (__u64)(chunk + 1) << 32 | (__u32)got;
	return (__u32)got;
}

/*
 * At most n bytes of the packet from `offset` on become those of the chunk from pos on. How many
 * did, or -1. The verifier bounds offset and length of a write each by itself, not their sum: the
 * further inside the chunk, the shorter the piece, and DP_PIECE bytes of unused room at its end.
 * The masks stand where they are used: a spill in between would lose the bounds.
 */
GLOBAL int chunk_write(struct __sk_buff *skb, __u32 value, __u32 offset, __u32 pos, __u32 n)
{
	struct dp_chunk *c = chunk_at(value & ~TAKE_IN_ORDER);
	__u32 at = pos;
	long err = 0;

	if (!c)
		return -1;
	if ((value & CHUNK_SHARED) && c->filled > pos) {
		if (n > c->filled - pos)
			n = c->filled - pos;
	} else if (!pos) {
		asm volatile("%[n] += -1\n\t%[n] &= 2047\n\t%[n] += 1" : [n] "+r"(n));
		err = bpf_skb_load_bytes(skb, offset, c->data, n);
	} else if (pos < 1024) {
		if (n > 1024)
			n = 1024;
		asm volatile("%[n] += -1\n\t%[n] &= 1023\n\t%[n] += 1\n\t%[p] &= 1023"
			     : [n] "+r"(n), [p] "+r"(at));
		err = bpf_skb_load_bytes(skb, offset, c->data + at, n);
	} else if (pos < 1536) {
		if (n > 512)
			n = 512;
		asm volatile("%[n] += -1\n\t%[n] &= 511\n\t%[n] += 1\n\t%[p] &= 2047"
			     : [n] "+r"(n), [p] "+r"(at));
		asm volatile("%[p] += -1024\n\t%[p] &= 511" : [p] "+r"(at));
		err = bpf_skb_load_bytes(skb, offset, c->data + 1024 + at, n);
	} else {
		if (n > DP_PIECE)
			n = DP_PIECE;
		asm volatile("%[n] += -1\n\t%[n] &= 255\n\t%[n] += 1\n\t%[p] &= 2047"
			     : [n] "+r"(n), [p] "+r"(at));
		err = bpf_skb_load_bytes(skb, offset, c->data + at, n);
	}
	if (err)
		return -1;
	if ((value & CHUNK_SHARED) && (value & TAKE_IN_ORDER))
		chunk_fill(c, pos + n);
	return n;
}

/* Not inlined: what its caller keeps on the stack would add to it twice. */
static __noinline long store_piece(__u32 i, struct store_write *w)
{
	__u32 pos = w->seq & (DP_CHUNK - 1), n = DP_CHUNK - pos;
	__s64 value;
	int wrote;

	if (!w->left)
		return 1;
	value = store_value(w);
	if (value < 0)
		return 1;
	if (n > w->left)
		n = w->left;
	wrote = chunk_write(w->skb, value | (w->how & TAKE_IN_ORDER), w->offset, pos, n);
	if (wrote < 0)
		return 1;
	w->offset += wrote;
	w->seq += wrote;
	w->left -= wrote;
	return 0;
}

/* Counts what a large packet needs at once. */
static __always_inline void store_put_many(struct store_write *w)
{
	__u32 n = chunk_distance(w->seq >> DP_CHUNK_SHIFT,
				 (w->seq + w->left + DP_CHUNK - 1) >> DP_CHUNK_SHIFT);

	if (n > 1 && !(w->how & TAKE_SHARED))
		w->paid = store_pay(w->slot, n);
	bpf_loop(STORE_MAX_PIECES, store_piece, w, 0);
	if (w->paid) {
		store_unuse(w->paid);
		shadow_count(w->slot, -w->paid);
	}
	if (n > 1 && store_is_short())
		w->how |= TAKE_SHORT;
}

/* Copies `left` bytes of the packet into the store. 0, or -1 when the store is full. */
static __always_inline int store_put(struct store_write *w)
{
	store_piece(0, w);
	if (w->left)
		store_put_many(w);
	return w->left ? -1 : 0;
}

/* The chunk of that key, or NULL. */
static __always_inline struct dp_chunk *store_find(const struct dp_store_key *key)
{
	__u32 *known = bpf_map_lookup_elem(&store, key);

	return known ? chunk_at(*known) : NULL;
}

/*
 * Stream bytes [seq, seq + len) into the per-CPU scratch; gen: of the keys of their chunks. Bottom
 * halves are off here.
 */
static __always_inline int store_read(struct scratch_space *s, __u32 slot, __u32 gen, __u32 seq,
				      __u32 len)
{
	struct dp_store_key key = {.slot = slot, .gen = gen, .chunk = seq >> DP_CHUNK_SHIFT};
	__u32 pos = seq & (DP_CHUNK - 1), first = DP_CHUNK - pos, rest;
	struct dp_chunk *c;

	if (first > len)
		first = len;
	rest = len - first;
	c = store_find(&key);
	if (!c)
		return -1;
	asm volatile("%[n] += -1\n\t%[n] &= 2047\n\t%[n] += 1" : [n] "+r"(first));
	if (bpf_probe_read_kernel(s->data, first, c->data + pos))
		return -1;
	if (!rest)
		return 0;
	key.chunk = chunk_next(key.chunk);
	c = store_find(&key);
	if (!c)
		return -1;
	asm volatile("%[n] += -1\n\t%[n] &= 2047\n\t%[n] += 1\n\t%[p] &= 2047"
		     : [n] "+r"(rest), [p] "+r"(first));
	return bpf_probe_read_kernel(s->data + first, rest, c->data) ? -1 : 0;
}

/*
 * Was the chunk of byte `seq` freed meanwhile? It may hold another flow's bytes then. What frees a
 * chunk ends the shadow, or moves `store_start`, before it does.
 */
static __always_inline bool store_is_gone(const struct dp_shadow *sh, __u32 gen, __u32 seq)
{
	return sh->gen != gen || !shadow_is_open(sh) || seq_before(seq, sh->tcp.store_start);
}

#endif
