/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What this host's own TCP sockets know: the one place where sockets are asked. */
#ifndef DOPPEL_SOCKET_BPF_H
#define DOPPEL_SOCKET_BPF_H

#include "maps.bpf.h"
#include "packet/parse.bpf.h"

/* include/net/tcp_states.h */
#define TCP_ESTABLISHED	 1
#define TCP_CLOSE_WAIT	 8
#define TCP_NEW_SYN_RECV 12

/* Bytes that a socket's backlog may hold, so far is what arrives ahead of its RCV.NXT. */
#define SOCKET_BACKLOG (4u << 20)

/* The question for a packet from `saddr` to `daddr`. */
static __always_inline void sock_tuple(struct bpf_sock_tuple *t, const struct dp_addr *saddr,
				       __be16 sport, const struct dp_addr *daddr, __be16 dport)
{
	t->ipv4.saddr = addr_v4(saddr);
	t->ipv4.daddr = addr_v4(daddr);
	t->ipv4.sport = sport;
	t->ipv4.dport = dport;
}

#define SOCK_TUPLE_SIZE sizeof(((struct bpf_sock_tuple *)0)->ipv4)

/* Would a socket of this host take such a packet? Listening ones count as well. */
static __always_inline bool socket_exists(struct __sk_buff *skb, struct bpf_sock_tuple *t)
{
	struct bpf_sock *sk = bpf_sk_lookup_tcp(skb, t, SOCK_TUPLE_SIZE, BPF_F_CURRENT_NETNS, 0);

	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

static __noinline bool socket_exists_for(struct __sk_buff *skb, const struct pkt *p)
{
	struct bpf_sock_tuple t = {};

	sock_tuple(&t, &p->saddr, p->sport, &p->daddr, p->dport);
	return socket_exists(skb, &t);
}

/*
 * Does a socket of this host take the packet? It completes a handshake that the socket answered, or
 * continues its stream.
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
	sock_tuple(&t, &p->saddr, p->sport, &p->daddr, p->dport);
	sk = bpf_skc_lookup_tcp(skb, &t, SOCK_TUPLE_SIZE, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	if (sk->state == TCP_NEW_SYN_RECV) {
		req = bpf_skc_to_tcp_request_sock(sk);
		yes = req && req->snt_isn + 1 == p->ack;
	} else if (sk->state >= TCP_ESTABLISHED && sk->state <= TCP_CLOSE_WAIT) {
		tp = bpf_tcp_sock(sk);
		yes = tp && p->seq + p->payload - tp->rcv_nxt <= SOCKET_BACKLOG;
	}
	bpf_sk_release(sk);
	return yes;
}

/*
 * Does the socket that sends this packet send it for the first time? TC egress comes before
 * tcp_event_new_data_sent(). A packet without payload or socket needs no proof.
 */
static __always_inline bool socket_sends_anew(struct __sk_buff *skb, const struct pkt *p)
{
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tp;

	if (!sk || !p->payload)
		return true;
	sk = bpf_sk_fullsock(sk);
	tp = sk ? bpf_tcp_sock(sk) : NULL;
	return !tp || !seq_before(p->seq, tp->snd_nxt);
}

#endif
