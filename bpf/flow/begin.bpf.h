/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a shadow begins: a port for it, its name, and its first state. */
#ifndef DOPPEL_BEGIN_BPF_H
#define DOPPEL_BEGIN_BPF_H

#include "ledger.bpf.h"
#include "socket.bpf.h"
#include "tcp/shadow.bpf.h"

#define PORT_TRIES  8 /* no less than DP_MAX_SOURCES: each pool has its turn */
#define JOIN_WSCALE 7 /* 8 MB, Linux' own choice for its default buffers */

#define START_RESUMED (1u << 15) /* beside dp_shadow_flags: where the last shadow ended */

/* What a shadow starts from: a client's SYN, or a segment in mid-stream. */
struct flow_start {
	__u32 isn;
	__u32 ack; /* of the client, in the packet that it starts with */
	__u32 tsval;
	__u16 flags; /* DP_SH_TS | DP_SH_SACK | DP_SH_WSCALE, and DP_SH_JOINED, START_RESUMED */
	__u8 wscale;
	__u8 ttl;
	__be16 target_port;
	__u8 breaks;
	__u8 fruitless;
	__u32 slot; /* from claim_port() */
};

struct port_search {
	struct __sk_buff *skb;
	const struct dp_target *to;
	__u32 target_port;
	__u32 turn; /* where the search begins among the target's pools */
	__u32 slot;
	__u32 skipped;
};

/* A port is taken only if no socket of this host answers for it toward the target. */
static long try_port(__u32 i, struct port_search *s)
{
	__u32 pool = target_pool(s->to, s->turn + i), size, slot;
	struct bpf_sock_tuple tuple;

	if (!slot_take(pool, &slot))
		return target_pools(s->to) == 1;
	size = sock_tuple(&tuple, &s->to->address, s->target_port, pool_address(pool, s->to),
			  port_of_slot(slot));
	if (!socket_exists(s->skb, &tuple, size)) {
		s->slot = slot;
		return 1;
	}
	slot_give_back(slot);
	s->skipped++;
	return 0;
}

/* Takes a shadow port out of the queue, toward that port of the target. DP_NO_SLOT: none is free.
 */
GLOBAL __u32 claim_port(struct __sk_buff *skb, __u32 mapping, __u32 target, __u32 target_port)
{
	struct port_search s = {.skb = skb, .target_port = target_port, .slot = DP_NO_SLOT};
	struct dp_mapping *m = mapping_at(mapping);
	struct dp_ledger *l = ledger_cell(mapping, target);

	if (!m || !l)
		return DP_NO_SLOT;
	s.to = target_at(m, target);
	if (target_pools(s.to) > 1) /* all of them alike, so that their ports rest alike */
		s.turn = bpf_get_prandom_u32() >> 8;
	bpf_loop(PORT_TRIES, try_port, &s, 0);
	l->event[DP_EVENT_port_in_use] += s.skipped;
	return s.slot;
}

/* What the shadow's SYN offers: as much as the path to its target takes (RFC 9293, 3.7.1). */
static __always_inline __u32 mss_of_mtu(const struct dp_shadow *sh, __u32 mtu)
{
	__u32 headers = shadow_headers(sh);

	return mtu > headers ? mtu - headers : MSS_DEFAULT;
}

/*
 * May copies to the target come from the client's own address? Not from one of the other IP
 * version, from loopback or a link-local address, which mean another host there, nor from the
 * target's own, which its IP drops (a martian source), nor from one of this host whose answers are
 * looked for in another pool.
 */
static __always_inline bool client_may_be_source(const struct dp_target *target,
						 const struct dp_addr *client, __u32 slot)
{
	if (addr_is_v4(client) != addr_is_v4(&target->address) ||
	    addr_eq(client, &target->address) || slot_of(client, slot % cfg.ports) != slot)
		return false;
	if (addr_is_v4(client))
		return (client->w[3] & bpf_htonl(0xff000000)) != bpf_htonl(0x7f000000) &&
		       (client->w[3] & bpf_htonl(0xffff0000)) != bpf_htonl(0xa9fe0000);
	return (client->w[0] & bpf_htonl(0xffc00000)) != bpf_htonl(0xfe800000) &&
	       (client->w[0] | client->w[1] | client->w[2] | (client->w[3] ^ bpf_htonl(1)));
}

/*
 * Names the slot's next shadow, before it begins. Identity first: the slot is nobody's until its
 * state says so. Its last part, `oif`, comes when the flow is entered and counted: before that
 * nothing of the target's can be for this shadow. The port is the slot's whatever the address, so
 * that what the target answers to it leads here. A function of its own: flow_bind() has no stack
 * left.
 */
GLOBAL int shadow_name(__u32 slot, const struct dp_flow_key *key, __u32 target_port)
{
	struct dp_shadow *sh = shadow_at(slot);
	const struct dp_target *target;
	struct dp_addr client;
	struct dp_mapping *m;

	if (!key || !sh)
		return 0;
	m = mapping_at(key->mapping);
	if (!m)
		return 0;
	target = target_at(m, key->target);
	client = key->client;
	sh->ep.oif = 0;
	sh->ep.key = *key;
	sh->ep.address = target->address;
	if (target->keep_client && client_may_be_source(target, &client, slot))
		sh->ep.shadow_addr = client;
	else
		sh->ep.shadow_addr = *pool_address(pool_of_slot(slot), target);
	sh->ep.target_port = target_port;
	sh->ep.shadow_port = port_of_slot(slot);
	return 0;
}

/* A new generation in SYN-SENT, of which the other fields are 0. */
static __always_inline void shadow_start_locked(struct dp_shadow *sh, const struct flow_start *b,
						const struct dp_target *target, __u64 now)
{
	/* It may still be in the timer's queue. */
	__u32 flags = sh->tcp.flags & DP_SH_TIMER, store_gen = sh->tcp.store_gen + 1;

	sh->gen = (sh->gen + 1) & 0x7fffffff;
	__builtin_memset(&sh->tcp, 0, sizeof(sh->tcp));
	sh->tcp.flags = flags | DP_SH_TIMED | (target->keep_client ? DP_SH_KEPT : 0) |
			(b->flags & (DP_SH_TS | DP_SH_SACK | DP_SH_WSCALE | DP_SH_JOINED));
	sh->tcp.store_gen = store_gen;
	sh->tcp.breaks = b->breaks;
	sh->tcp.fruitless = b->fruitless;
	sh->tcp.isn = b->isn;
	sh->tcp.una = b->isn;
	sh->tcp.nxt = b->isn + 1;
	sh->tcp.end = b->isn + 1;
	sh->tcp.ahead = b->isn + 1;
	sh->tcp.ack_seen = b->ack;
	sh->tcp.store_start = b->isn + 1;
	sh->tcp.store_end = b->isn + 1;
	sh->tcp.quiet = b->isn + 1;
	sh->tcp.ts_val = b->tsval;
	sh->tcp.rcv_wscale = b->flags & DP_SH_WSCALE ? b->wscale : 0;
	sh->tcp.ttl = b->ttl;
	sh->tcp.mss = MSS_DEFAULT; /* until the target's SYN-ACK says otherwise */
	sh->tcp.mss_offer = mss_of_mtu(sh, target->mtu);
	sh->tcp.rto_ms = INITIAL_RTO_MS;
	sh->tcp.timed_seq = b->isn + 1;
	sh->tcp.timed_ns = now;
	sh->tcp.opened_ns = now;
	sh->tcp.seen_ns = now;
	shadow_restart_rto_locked(sh, now);
	sh->tcp.state = DP_SYN_SENT;
}

#endif
