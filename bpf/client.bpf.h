/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What one client holds of what all share: chunks of the store, rows of the flow table, shadow
 * ports, and shadows that wait for a SYN-ACK. It may take so many times what is left, as a flow may
 * of the store (store.bpf.h): one alone gets nearly all, and two of them never everything.
 *
 * A row of `clients` has no life of its own: addresses are hashed to it, and nothing is entered or
 * removed. Clients that meet in a row have one share together; the cookie of this attach keeps
 * anybody from choosing whom he meets.
 *
 * The counts follow other maps: whoever inserted a row counts one more, whoever deleted it one
 * less. A map lets exactly one of several CPUs succeed, so a count comes back to 0 however a flow
 * ends.
 */
#ifndef DOPPEL_CLIENT_BPF_H
#define DOPPEL_CLIENT_BPF_H

#include "maps.bpf.h"

#define CLIENT_SHARE 16

/*
 * The row of an address. An IPv6 client is its /64: one host gets that (RFC 6177), and chooses the
 * rest at will. The finish of MurmurHash3's 32-bit form spreads all bits.
 */
static __always_inline __u32 client_row(const struct dp_addr *a)
{
	__u32 x = cfg.cookie;

	if (a->w[0] | a->w[1])
		x = (x ^ a->w[0]) * 0x9e3779b1 ^ a->w[1];
	else
		x ^= a->w[3];
	x ^= x >> 16;
	x *= 0x85ebca6b;
	x ^= x >> 13;
	x *= 0xc2b2ae35;
	x ^= x >> 16;
	return x & (DP_CLIENTS - 1);
}

/*
 * The row in which the chunks are counted that a shadow of that flow takes. Of each target a client
 * has its share: what waits for one must not keep its other targets' copies out.
 */
static __always_inline __u32 store_row(const struct dp_flow_key *key)
{
	return (client_row(&key->client) + key->target * 0x9e37u) & (DP_CLIENTS - 1);
}

static __always_inline struct dp_client *client_at(__u32 row)
{
	return bpf_map_lookup_elem(&clients, &row);
}

/* May a client that holds `held` take one more, where `left` are free? */
static __always_inline bool client_may_take(__s64 held, __s64 left)
{
	return left > 0 && held <= CLIENT_SHARE * left;
}

static __always_inline __u32 limit_row(const struct dp_flow_key *key)
{
	return key->mapping * DP_MAX_TARGETS + key->target;
}

static __always_inline struct dp_limit *limit_at(__u32 row)
{
	return bpf_map_lookup_elem(&limits, &row);
}

/* Chunks of the store, more or fewer, of a client (store_row()) and of a target (limit_row()). */
static __always_inline void client_count_chunks(__u32 client, __u32 target, __s32 more)
{
	struct dp_client *c = client_at(client);
	struct dp_limit *l = limit_at(target);

	if (c)
		__sync_fetch_and_add(&c->chunks, more);
	if (l)
		__sync_fetch_and_add(&l->chunks, more);
}

/* Rows of the flow table, shadow ports and shadows in SYN-SENT, more or fewer. */
GLOBAL int client_count(const struct dp_addr *client, __s32 flows_more, __s32 ports_more,
			__s32 embryonic_more)
{
	struct dp_client *c, *all = client_at(DP_CLIENTS);

	if (!client || !all)
		return 0;
	c = client_at(client_row(client));
	if (!c)
		return 0;
	if (flows_more) {
		__sync_fetch_and_add(&c->flows, flows_more);
		__sync_fetch_and_add(&all->flows, flows_more);
	}
	if (ports_more) {
		__sync_fetch_and_add(&c->ports, ports_more);
		__sync_fetch_and_add(&all->ports, ports_more);
	}
	if (embryonic_more)
		__sync_fetch_and_add(&c->embryonic, embryonic_more);
	return 0;
}

/* May the client have one more row of the flow table? */
GLOBAL int client_may_enter(const struct dp_addr *client)
{
	struct dp_client *c, *all = client_at(DP_CLIENTS);

	if (!client || !all)
		return 0;
	c = client_at(client_row(client));
	return c && client_may_take(c->flows, (__s64)cfg.flows - all->flows);
}

#endif
