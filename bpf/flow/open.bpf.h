/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flows: which conversation a captured packet belongs to, and the birth of its shadow. */
#ifndef DOPPEL_FLOW_BPF_H
#define DOPPEL_FLOW_BPF_H

#include "packet/txreq.bpf.h"
#include "flow/limit.bpf.h"
#include "tcp/timer.bpf.h"

#define PORT_TRIES 8

/* What a shadow starts from: a client's SYN, or a segment in mid-stream. */
struct flow_start {
	__u32 isn;
	__u32 tsval;
	__u16 flags; /* DP_SH_TS | DP_SH_SACK | DP_SH_WSCALE, and DP_SH_JOINED */
	__u8 wscale;
	__u8 ttl;
	__be16 target_port;
	__u8 breaks;
	__u8 pad;
	__u32 slot; /* from claim_port() */
};

/* include/net/tcp_states.h */
#define TCP_ESTABLISHED	 1
#define TCP_CLOSE_WAIT	 8
#define TCP_NEW_SYN_RECV 12

/*
 * TC ingress comes before netfilter and before TCP: whatever a stranger sends is seen here. A
 * shadow may begin only where a socket of this host takes the packet: it completes a handshake
 * that the socket answered, or continues its stream. 4 MB covers what is still in the backlog.
 */
GLOBAL int socket_expects(struct __sk_buff *skb, const struct pkt *p)
{
	struct tcp_request_sock *req;
	struct bpf_sock_tuple t = {};
	struct bpf_tcp_sock *tp;
	struct bpf_sock *sk;
	int yes = 0;

	if (!p)
		return 0;
	t.ipv4.saddr = p->saddr;
	t.ipv4.daddr = p->daddr;
	t.ipv4.sport = p->sport;
	t.ipv4.dport = p->dport;
	sk = bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	if (sk->state == TCP_NEW_SYN_RECV) {
		req = bpf_skc_to_tcp_request_sock(sk);
		yes = req && req->snt_isn + 1 == p->ack;
	} else if (sk->state >= TCP_ESTABLISHED && sk->state <= TCP_CLOSE_WAIT) {
		tp = bpf_tcp_sock(sk);
		yes = tp && p->seq + p->payload - tp->rcv_nxt <= (4u << 20);
	}
	bpf_sk_release(sk);
	return yes;
}

struct port_search {
	struct __sk_buff *skb;
	struct bpf_sock_tuple tuple;
	__u32 slot;
	__u32 skipped;
};

/* A port is taken only if no socket of this host answers for it toward the target. */
static long try_port(__u32 i, struct port_search *s)
{
	struct bpf_sock *sk;
	__u32 slot;

	if (bpf_map_pop_elem(&free_slots, &slot))
		return 1;
	s->tuple.ipv4.dport = bpf_htons(cfg.port_first + slot);
	sk = bpf_sk_lookup_tcp(s->skb, &s->tuple, sizeof(s->tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk) {
		s->slot = slot;
		return 1;
	}
	bpf_sk_release(sk);
	bpf_map_push_elem(&free_slots, &slot, 0);
	s->skipped++;
	return 0;
}

/*
 * Takes a shadow port out of the queue, toward port target_port of the target
 * (mapping * DP_MAX_TARGETS + target). The slot, or -1: none is free.
 */
GLOBAL int claim_port(struct __sk_buff *skb, __u32 which, __u32 target_port)
{
	struct port_search s = {.skb = skb, .slot = DP_NO_SLOT};
	__u32 i = which / DP_MAX_TARGETS, t = which % DP_MAX_TARGETS;
	struct dp_mapping *m = bpf_map_lookup_elem(&mappings, &i);
	struct dp_ledger *l = ledger_cell(i, t);

	if (!m || !l)
		return -1;
	s.tuple.ipv4.saddr = target_at(m, t)->address.w[3];
	s.tuple.ipv4.daddr = target_at(m, t)->shadow_addr.w[3];
	s.tuple.ipv4.sport = target_port;
	bpf_loop(PORT_TRIES, try_port, &s, 0);
	l->event[DP_EVENT_port_in_use] += s.skipped;
	return s.slot == DP_NO_SLOT ? -1 : (int)s.slot;
}

/*
 * Binds the slot and a shadow in SYN-SENT to the flow; the SYN itself is the caller's to send.
 * 0; or 1 + enum dp_excluded, or OPEN_RACE: another CPU was first. The slot is then free again.
 */
#define OPEN_RACE 0xff

GLOBAL int flow_bind(struct __sk_buff *skb, const struct dp_flow_key *flow_key,
		     const struct flow_start *b)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	__u32 slot, mss, i, t, why, in_queue;
	struct dp_flow *old, flow = {};
	bool watch;
	const struct dp_target *target;
	struct dp_flow_key key;
	struct dp_mapping *m;
	struct dp_shadow *sh;
	struct dp_ledger *l;

	if (!flow_key || !b)
		return OPEN_RACE;
	key = *flow_key; /* kernel 6.1 takes a map's key from the stack, not from an argument */
	i = key.mapping;
	t = key.target;
	slot = b->slot;
	m = bpf_map_lookup_elem(&mappings, &i);
	l = ledger_cell(i, t);
	sh = shadow_at(slot);
	if (!m || !sh || !l || t >= DP_MAX_TARGETS)
		return OPEN_RACE;
	target = target_at(m, t);
	mss = target->mtu > HEADERS_LEN ? target->mtu - HEADERS_LEN : 536;

	/* Identity first: the slot is nobody's until its state says so. Its last part comes when
	 * the flow is entered and counted: before that nothing of the target's can be for this
	 * shadow.
	 */
	sh->ep.oif = 0;
	sh->ep.key = key;
	sh->ep.address = target->address;
	sh->ep.shadow_addr = target->shadow_addr;
	sh->ep.target_port = b->target_port;
	sh->ep.shadow_port = bpf_htons(cfg.port_first + slot);

	bpf_spin_lock(&sh->lock);
	sh->gen = (sh->gen + 1) & 0x7fffffff; /* so that slot and gen fit a positive long */
	in_queue = sh->tcp.flags & DP_SH_TIMER;
	__builtin_memset(&sh->tcp, 0, sizeof(sh->tcp));
	sh->tcp.flags = in_queue | DP_SH_TIMED |
			(b->flags & (DP_SH_TS | DP_SH_SACK | DP_SH_WSCALE | DP_SH_JOINED));
	sh->tcp.breaks = b->breaks;
	sh->tcp.isn = b->isn;
	sh->tcp.una = b->isn;
	sh->tcp.nxt = b->isn + 1;
	sh->tcp.end = b->isn + 1;
	sh->tcp.store_start = b->isn + 1;
	sh->tcp.store_end = b->isn + 1;
	sh->tcp.ts_val = b->tsval;
	sh->tcp.rcv_wscale = b->flags & DP_SH_WSCALE ? b->wscale : 0;
	sh->tcp.ttl = b->ttl;
	sh->tcp.mss = 536; /* until the target's SYN-ACK says otherwise (RFC 9293, 3.7.1) */
	sh->tcp.mss_offer = mss;
	sh->tcp.rto_ms = INITIAL_RTO_MS;
	sh->tcp.timed_seq = b->isn + 1;
	sh->tcp.timed_ns = now;
	sh->tcp.opened_ns = now;
	sh->tcp.seen_ns = now;
	shadow_restart_rto_locked(sh, now);
	watch = timer_wanted_locked(sh);
	sh->tcp.state = DP_SYN_SENT;
	bpf_spin_unlock(&sh->lock);
	timer_prepare();
	if (watch)
		timer_watch(slot);

	flow.slot = slot;
	flow.gen = sh->gen;
	flow.seen_ns = now;
	flow.breaks = b->breaks;
	/* Of two CPUs that open the same flow, the one whose claim or insert succeeds wins. The
	 * caller's pointer to the old entry is void from here on.
	 */
	old = bpf_map_lookup_elem(&flows, &key);
	if (old && !flow_claim(old, DP_NO_SLOT, 0, DP_SLOT_GONE)) {
		why = OPEN_RACE;
	} else {
		if (old) {
			bpf_map_delete_elem(&flows, &key);
			l->waiting--;
		}
		why = 0;
		if (bpf_map_update_elem(&flows, &key, &flow, BPF_NOEXIST))
			why = bpf_map_lookup_elem(&flows, &key) ? OPEN_RACE
								: 1 + DP_EXCLUDED_table_full;
	}
	if (why) {
		bpf_spin_lock(&sh->lock);
		sh->tcp.state = DP_TIME_WAIT; /* no flow leads here */
		bpf_spin_unlock(&sh->lock);
		sh->ep.oif = target->oif;
		bpf_map_push_elem(&free_slots, &slot, 0);
		return why;
	}
	limit_half_open(i, t, 1);
	l->open++;
	l->slots++;
	if (b->flags & DP_SH_JOINED)
		l->joined++;
	else
		l->opened++;
	sh->ep.oif = target->oif;
	return 0;
}

#endif
