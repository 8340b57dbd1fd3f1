/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Payload of a client's connection is in the store once, however many shadows it has: those of
 * several targets, and further copies. Each shadow has keys of its own, and they lead to the same
 * chunk, which is free when the last of its holders has given it back.
 *
 * The first shadow that stores a packet in order is the one that leads; those that store the same
 * bytes of it after that take its chunks. So all that a follower reads has been written. Bytes
 * below dp_chunk.filled are not written again: shadows that lag have accepted the same stream, and
 * another one may be sending from there.
 */
#ifndef DOPPEL_SHARE_BPF_H
#define DOPPEL_SHARE_BPF_H

#include "maps.bpf.h"
#include "tcp/seq.bpf.h"
#include "tcp/shadow.bpf.h"

/* Of the values of map `store`, which are indexes of chunks: it counts its holders. */
#define CHUNK_SHARED  (1u << 31)
#define CHUNK_HOLDERS 0xffff /* at most */

/* How a packet of such a connection goes into the store. */
#define TAKE_SHARED   (1u << 0)
#define TAKE_FOLLOWS  (1u << 1)	 /* the shadow that leads has all of it */
#define TAKE_IN_ORDER (1u << 30) /* nothing is missing before it */

static __always_inline struct dp_fresh *store_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&fresh_chunks, &zero);
}

/* So many chunks are nobody's any more. */
static __always_inline void store_unuse(__u32 n)
{
	struct dp_fresh *f = n ? store_state() : NULL;

	if (f)
		__sync_fetch_and_add(&f->used, -n);
}

static __always_inline struct dp_chunk *chunk_at(__u32 value)
{
	__u32 index = value & ~CHUNK_SHARED;

	return bpf_map_lookup_elem(&chunks, &index);
}

/* Who had the chunk has it no more. Returns how many are free for it, which the caller counts. */
static __always_inline __u32 chunk_release(__u32 value)
{
	__u32 index = value & ~CHUNK_SHARED;

	struct dp_chunk *c;
	bool last = true;

	if (value & CHUNK_SHARED) {
		c = chunk_at(value);
		if (!c)
			return 0;
		bpf_spin_lock(&c->lock);
		c->holders--;
		last = !c->holders;
		bpf_spin_unlock(&c->lock);
	}
	if (!last)
		return 0;
	/* There is room; since kernel 6.16 the lock may not be had. What is lost stays in use. */
	return !bpf_map_push_elem(&free_chunks, &index, 0) ||
	       !bpf_map_push_elem(&free_chunks, &index, 0);
}

/* A chunk that is nobody's is taken by its first holder. */
static __always_inline void chunk_first_hold(struct dp_chunk *c)
{
	bpf_spin_lock(&c->lock);
	c->holders = 1;
	c->filled = 0;
	bpf_spin_unlock(&c->lock);
}

static __always_inline struct store_lead *lead_room(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&lead, &zero);
}

/* A lead is good for one packet: a connection that begins anew may have the same numbers. */
static __always_inline void lead_none(void)
{
	struct store_lead *l = lead_room();

	if (l)
		l->to = l->from;
}

/* Shadows of one connection of a client, of whatever target and copy. */
static __always_inline bool same_connection(const struct dp_flow_key *a,
					    const struct dp_flow_key *b)
{
	return addr_eq(&a->client, &b->client) && addr_eq(&a->server, &b->server) &&
	       a->client_port == b->client_port && a->server_port == b->server_port &&
	       a->mapping == b->mapping;
}

/* [from, to) of the shadow's stream is what the one that leads has just stored. */
static __always_inline bool lead_covers(const struct store_lead *l, const struct dp_shadow *sh,
					__u32 slot, __u32 from, __u32 to)
{
	struct dp_shadow *first = l->slot != slot ? shadow_at(l->slot) : NULL;

	return first && l->to != l->from && !seq_before(from, l->from) && !seq_after(to, l->to) &&
	       same_connection(&first->ep.key, &sh->ep.key);
}

/* How [from, to) of a connection with several shadows goes into the store for this one: TAKE_. */
GLOBAL __u32 lead_how(__u32 slot, __u32 from, __u32 to)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct store_lead *l = lead_room();

	if (!sh || !l || seq_after(from, sh->tcp.end) || shadow_has_ahead(sh))
		return TAKE_SHARED;
	return TAKE_SHARED | TAKE_IN_ORDER |
	       (lead_covers(l, sh, slot, from, to) ? TAKE_FOLLOWS : 0);
}

/* The shadow has stored [from, to) of the packet, and no other one has. */
GLOBAL int lead_set(__u32 slot, __u32 from, __u32 to)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct store_lead *l = lead_room();

	if (!sh || !l)
		return 0;
	l->slot = slot;
	l->gen = sh->tcp.store_gen;
	l->from = from;
	l->to = to;
	return 0;
}

/*
 * Holds the chunk of that number of the shadow that leads as well. Its index, or -1: it shares
 * none. A chunk that was given back meanwhile may be another's by now: it is only the leader's as
 * long as its key says so.
 */
GLOBAL int chunk_join(__u32 chunk)
{
	struct store_lead *l = lead_room();
	struct dp_store_key key = {.chunk = chunk};
	struct dp_chunk *c;
	__u32 *known, value;
	bool held;

	if (!l)
		return -1;
	key.slot = l->slot;
	key.gen = l->gen;
	known = bpf_map_lookup_elem(&store, &key);
	value = known ? *known : 0;
	c = value & CHUNK_SHARED ? chunk_at(value) : NULL;
	if (!c)
		return -1;
	bpf_spin_lock(&c->lock);
	held = c->holders && c->holders < CHUNK_HOLDERS;
	if (held)
		c->holders++;
	bpf_spin_unlock(&c->lock);
	if (!held)
		return -1;
	known = bpf_map_lookup_elem(&store, &key);
	if (!known || *known != value) {
		store_unuse(chunk_release(value));
		return -1;
	}
	return value & ~CHUNK_SHARED;
}

/* The bytes of the chunk before `end` are there now. */
static __always_inline void chunk_fill(struct dp_chunk *c, __u32 end)
{
	bpf_spin_lock(&c->lock);
	if (c->filled < end)
		c->filled = end;
	bpf_spin_unlock(&c->lock);
}

#endif
