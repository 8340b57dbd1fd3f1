// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Asks conntrack. The kfuncs are there since kernel 5.18, and only while nf_conntrack is loaded: so
 * this file is built with and without DOPPEL_CONNTRACK, and whoever loads the object tries.
 */
#include "conntrack.bpf.h"

#ifdef DOPPEL_CONNTRACK

#include <bpf/bpf_core_read.h>

/* include/uapi/linux/netfilter/nf_conntrack_common.h */
#define IPS_SEEN_REPLY (1u << 1)
#define IPS_SEQ_ADJUST (1u << 6)
#define IPS_DST_NAT    (1u << 5)
#define IPS_OFFLOAD    (1u << 14)
#define IPS_HW_OFFLOAD (1u << 15)

#define IP_CT_DIR_ORIGINAL 0
#define IP_CT_DIR_REPLY	   1

/* include/uapi/linux/netfilter/nf_conntrack_tcp.h */
#define TCP_CONNTRACK_SYN_RECV	2
#define TCP_CONNTRACK_FIN_WAIT	4
#define TCP_CONNTRACK_LAST_ACK	6
#define TCP_CONNTRACK_TIME_WAIT 7

#define IP_CT_TCP_FLAG_CLOSE_INIT 0x04
#define IP_CT_TCP_FLAG_BE_LIBERAL 0x08
#define IP_CT_TCP_FLAG_MAXACK_SET 0x20

/* An ACK may lag behind what it could acknowledge by so much at least; as netfilter has it. */
#define MAXACKWINCONST 66000u

/* The largest receive window (RFC 7323, 2.3). */
#define MAX_RCV_WND (65535u << 14)

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
					 __u32 tuple__sz, struct bpf_ct_opts *opts,
					 __u32 opts__sz) __ksym;
extern void bpf_ct_release(struct nf_conn *ct) __ksym;

/* Into place, without a copy on the stack. */
#define ct_copy(to, ct, member) bpf_core_read(to, sizeof(*(to)), &(ct)->member)

#define ct_read(ct, member)                                                                        \
	({                                                                                         \
		typeof((ct)->member) value = 0;                                                    \
		ct_copy(&value, ct, member);                                                       \
		value;                                                                             \
	})

/* The packet as the server gets it: the answers' addresses, turned around. */
static __always_inline void conntrack_translate_v6(struct nf_conn *ct, struct bpf_sock_tuple *t)
{
	ct_copy(&t->ipv6.saddr, ct, tuplehash[IP_CT_DIR_REPLY].tuple.dst.u3.ip6);
	ct_copy(&t->ipv6.sport, ct, tuplehash[IP_CT_DIR_REPLY].tuple.dst.u.all);
	ct_copy(&t->ipv6.daddr, ct, tuplehash[IP_CT_DIR_REPLY].tuple.src.u3.ip6);
	ct_copy(&t->ipv6.dport, ct, tuplehash[IP_CT_DIR_REPLY].tuple.src.u.all);
}

static __always_inline void conntrack_translate(struct nf_conn *ct, struct bpf_sock_tuple *t)
{
	ct_copy(&t->ipv4.saddr, ct, tuplehash[IP_CT_DIR_REPLY].tuple.dst.u3.ip);
	ct_copy(&t->ipv4.sport, ct, tuplehash[IP_CT_DIR_REPLY].tuple.dst.u.all);
	ct_copy(&t->ipv4.daddr, ct, tuplehash[IP_CT_DIR_REPLY].tuple.src.u3.ip);
	ct_copy(&t->ipv4.dport, ct, tuplehash[IP_CT_DIR_REPLY].tuple.src.u.all);
}

/* The server has the client's FIN: it acknowledged all that the client sent, and a FIN is in it. */
static __always_inline bool conntrack_fin(struct nf_conn *ct, __u32 state, const struct source *s)
{
	if (state < TCP_CONNTRACK_FIN_WAIT || ct_read(ct, proto.tcp.seen[0].td_end) != s->rcv_nxt)
		return false;
	return state >= TCP_CONNTRACK_LAST_ACK ||
	       (ct_read(ct, proto.tcp.seen[0].flags) & IP_CT_TCP_FLAG_CLOSE_INIT);
}

/*
 * The conditions of tcp_in_window(), in the words of struct source. RCV.NXT is the highest ACK of
 * the server, so it lags behind by what a delayed ACK does. seen[0] is the client, and seen[1] the
 * server, in the numbers that each of them uses.
 */
static __always_inline void conntrack_judge(struct nf_conn *ct, __u32 status, struct source *s)
{
	__u32 state = ct_read(ct, proto.tcp.state), lag;

	/* Whoever sends a segment without a connection gets an entry, but no answer except RST. */
	if (!(status & IPS_SEEN_REPLY) || state < TCP_CONNTRACK_SYN_RECV ||
	    state > TCP_CONNTRACK_TIME_WAIT)
		return;
	s->state = SOURCE_UNSEEN;
	/* A flow table carries the packets past conntrack, or a helper changes the numbers. */
	if ((status & (IPS_SEQ_ADJUST | IPS_OFFLOAD | IPS_HW_OFFLOAD)) ||
	    !(ct_read(ct, proto.tcp.seen[1].flags) & IP_CT_TCP_FLAG_MAXACK_SET))
		return;
	ct_copy(&s->rcv_nxt, ct, proto.tcp.seen[1].td_maxack);
	ct_copy(&s->rcv_end, ct, proto.tcp.seen[0].td_maxend);
	barrier_var(s); /* or clang keeps addresses of its members on the stack, which is full */
	/* Picked up in mid-stream: nobody knows by how much the window is scaled. */
	if (ct_read(ct, proto.tcp.seen[0].flags) & IP_CT_TCP_FLAG_BE_LIBERAL)
		s->rcv_end = s->rcv_nxt + MAX_RCV_WND;
	ct_copy(&s->ack_max, ct, proto.tcp.seen[1].td_end);
	s->ack_min = s->ack_max;
	s->answered = 1; /* conntrack does not know what it was that came last */
	if (state == TCP_CONNTRACK_SYN_RECV) {
		s->state = SOURCE_SYN_RECEIVED;
		return;
	}
	lag = ct_read(ct, proto.tcp.seen[0].td_maxwin);
	s->ack_min -= (lag > MAXACKWINCONST ? lag : MAXACKWINCONST) + 1;
	s->fin = conntrack_fin(ct, state, s);
	s->rcv_nxt -= s->fin;
	s->state =
		state == TCP_CONNTRACK_TIME_WAIT && s->fin ? SOURCE_TIME_WAIT : SOURCE_SYNCHRONIZED;
}

/* True: the destination of the connection is translated. */
static __always_inline bool conntrack_read(struct nf_conn *ct, struct bpf_sock_tuple *t, __u32 size,
					   struct source *s)
{
	__u32 status = ct_read(ct, status);

	if (!(status & IPS_DST_NAT))
		return false;
	if (size == sizeof(t->ipv6))
		conntrack_translate_v6(ct, t);
	else
		conntrack_translate(ct, t);
	conntrack_judge(ct, status, s);
	return true;
}

int conntrack_ask(struct __sk_buff *skb, struct bpf_sock_tuple *t, __u32 size, struct source *s)
{
	struct bpf_ct_opts opts = {.netns_id = BPF_F_CURRENT_NETNS, .l4proto = IPPROTO_TCP};
	struct nf_conn *ct;
	bool nat = false;

	if (!t || !s)
		return false;
	ct = size == sizeof(t->ipv6)
		     ? bpf_skb_ct_lookup(skb, t, sizeof(t->ipv6), &opts, sizeof(opts))
		     : bpf_skb_ct_lookup(skb, t, sizeof(t->ipv4), &opts, sizeof(opts));
	/* Once: the verifier of kernel 6.1 forgets that it is not NULL, and wants its release. */
	if (!ct)
		return false;
	if (opts.dir == IP_CT_DIR_ORIGINAL)
		nat = conntrack_read(ct, t, size, s);
	bpf_ct_release(ct);
	return nat;
}

#else

int conntrack_ask(struct __sk_buff *skb, struct bpf_sock_tuple *t, __u32 size, struct source *s)
{
	return false;
}

#endif

char LICENSE[] SEC("license") = "Dual BSD/GPL";
