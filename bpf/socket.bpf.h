/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What this host's own TCP sockets know: the one place where sockets are asked. */
#ifndef DOPPEL_SOCKET_BPF_H
#define DOPPEL_SOCKET_BPF_H

#include <bpf/bpf_core_read.h>

#include "conntrack.bpf.h"
#include "maps.bpf.h"
#include "packet/parse.bpf.h"
#include "source.bpf.h"

/* include/net/tcp_states.h */
#define TCP_SYN_SENT	 2
#define TCP_FIN_WAIT1	 4
#define TCP_FIN_WAIT2	 5
#define TCP_TIME_WAIT	 6
#define TCP_CLOSE	 7
#define TCP_CLOSE_WAIT	 8
#define TCP_LAST_ACK	 9
#define TCP_LISTEN	 10
#define TCP_CLOSING	 11
#define TCP_NEW_SYN_RECV 12

#define RCV_SHUTDOWN 1 /* include/net/sock.h */

/* Known where TCP drops text that ends beyond the window (kernel 6.17, 9ca48d616ed7). */
enum skb_drop_reason___window {
	SKB_DROP_REASON_TCP_INVALID_END_SEQUENCE = 1,
};

/*
 * The question for a packet from `saddr` to `daddr`, which are of one IP version; the answer is its
 * size, by which the kernel tells the version.
 */
static __always_inline __u32 sock_tuple(struct bpf_sock_tuple *t, const struct dp_addr *saddr,
					__be16 sport, const struct dp_addr *daddr, __be16 dport)
{
	if (!addr_is_v4(daddr)) {
		__builtin_memcpy(t->ipv6.saddr, saddr, 16);
		__builtin_memcpy(t->ipv6.daddr, daddr, 16);
		t->ipv6.sport = sport;
		t->ipv6.dport = dport;
		return sizeof(t->ipv6);
	}
	t->ipv4.saddr = addr_v4(saddr);
	t->ipv4.daddr = addr_v4(daddr);
	t->ipv4.sport = sport;
	t->ipv4.dport = dport;
	return sizeof(t->ipv4);
}

/* bpf_skc_lookup_tcp() for a question of that size, with sizes that the verifier knows. */
#define SOCK_LOOKUP(lookup, skb, t, size)                                                          \
	((size) == sizeof((t)->ipv6) ? lookup(skb, t, sizeof((t)->ipv6), BPF_F_CURRENT_NETNS, 0)   \
				     : lookup(skb, t, sizeof((t)->ipv4), BPF_F_CURRENT_NETNS, 0))

/* Would a socket of this host take such a packet? Listening ones count as well. */
static __always_inline bool socket_exists(struct __sk_buff *skb, struct bpf_sock_tuple *t,
					  __u32 size)
{
	struct bpf_sock *sk = SOCK_LOOKUP(bpf_sk_lookup_tcp, skb, t, size);

	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* The same for UDP. */
static __always_inline bool udp_socket_exists(struct __sk_buff *skb, struct bpf_sock_tuple *t,
					      __u32 size)
{
	struct bpf_sock *sk = SOCK_LOOKUP(bpf_sk_lookup_udp, skb, t, size);

	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/*
 * Does this host forward the packet? A socket that is bound to no address is found for each packet
 * to its port, also for one that is on its way to another host.
 */
GLOBAL int is_forwarded(struct __sk_buff *skb, const struct pkt *p)
{
	struct bpf_fib_lookup way = {.family = AF_INET, .l4_protocol = IPPROTO_UDP};
	long found;

	if (!p)
		return false;
	way.ifindex = skb->ifindex;
	way.sport = p->sport;
	way.dport = p->dport;
	if (p->v6) {
		way.family = AF_INET6;
		__builtin_memcpy(way.ipv6_src, &p->saddr, sizeof(way.ipv6_src));
		__builtin_memcpy(way.ipv6_dst, &p->daddr, sizeof(way.ipv6_dst));
	} else {
		way.ipv4_src = addr_v4(&p->saddr);
		way.ipv4_dst = addr_v4(&p->daddr);
	}
	found = bpf_fib_lookup(skb, &way, sizeof(way), 0);
	return found != BPF_FIB_LKUP_RET_NOT_FWDED && found != BPF_FIB_LKUP_RET_FWD_DISABLED &&
	       found >= 0;
}

/* A socket of this host takes the packet, which came in. */
static __noinline bool udp_socket_takes(struct __sk_buff *skb, const struct pkt *p)
{
	struct bpf_sock_tuple t = {};
	__u32 size = sock_tuple(&t, &p->saddr, p->sport, &p->daddr, p->dport);
	struct bpf_sock *sk = SOCK_LOOKUP(bpf_sk_lookup_udp, skb, &t, size);
	bool bound;

	if (!sk)
		return false;
	bound = p->v6 ? sk->src_ip6[0] | sk->src_ip6[1] | sk->src_ip6[2] | sk->src_ip6[3]
		      : sk->src_ip4;
	bpf_sk_release(sk);
	return bound || !is_forwarded(skb, p);
}

static __noinline bool udp_socket_exists_for(struct __sk_buff *skb, const struct pkt *p)
{
	struct bpf_sock_tuple t = {};
	__u32 size = sock_tuple(&t, &p->saddr, p->sport, &p->daddr, p->dport);

	return udp_socket_exists(skb, &t, size);
}

static __noinline bool socket_exists_for(struct __sk_buff *skb, const struct pkt *p)
{
	struct bpf_sock_tuple t = {};
	__u32 size = sock_tuple(&t, &p->saddr, p->sport, &p->daddr, p->dport);

	return socket_exists(skb, &t, size);
}

/* The same, and with one that only remembers a connection (TIME-WAIT). */
static __always_inline bool any_socket_for(struct __sk_buff *skb, const struct pkt *p)
{
	struct bpf_sock_tuple t = {};
	__u32 size = sock_tuple(&t, &p->saddr, p->sport, &p->daddr, p->dport);
	struct bpf_sock *sk = SOCK_LOOKUP(bpf_skc_lookup_tcp, skb, &t, size);

	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

static __always_inline void ask_request(struct tcp_request_sock *req, struct source *s)
{
	s->rcv_nxt = req->rcv_isn + 1;
	s->rcv_end = s->rcv_nxt + req->req.req.__req_common.skc_rcv_wnd;
	s->ack_min = req->snt_isn + 1; /* nothing less completes the handshake */
	s->ack_max = s->ack_min;
	s->fin = 0;
	s->answered = 1;
	s->ts_recent = req->req.req.ts_recent;
	s->state = SOURCE_SYN_RECEIVED;
}

static __always_inline void ask_full(struct tcp_sock *tp, const struct bpf_sock *sk,
				     struct source *s)
{
	__u32 state, una, wnd = tp->rcv_wnd;

	s->rcv_nxt = tp->rcv_nxt;
	/* Not before: what RCV.NXT counts by then, it tells of. See source_has_fin(), too. */
	barrier();
	state = sk->state;
	if (state == TCP_CLOSE) /* a moment ago: then it does not tell of a FIN any more */
		return;
	/*
	 * Not from RCV.WUP on: on another CPU the window may be new already and that still old
	 * (tcp_select_window), and the edge lie too far left. From RCV.NXT on it lies too far right
	 * by what has not been acknowledged yet. A shut window is shut.
	 */
	s->rcv_end = s->rcv_nxt + wnd;
	/* RFC 5961, 5.2, and never before the first byte (kernel 6.7, 3d501dd326fb). */
	una = tp->snd_una;
	barrier(); /* bytes_acked moves first (tcp_snd_una_update) */
	s->ack_min =
		una - (__u32)(tp->bytes_acked < tp->max_window ? tp->bytes_acked : tp->max_window);
	/*
	 * Not snd_nxt: that moves after the segment has left (tcp_event_new_data_sent), and on
	 * another CPU its acknowledgement may be here before.
	 */
	s->ack_max = tp->write_seq;
	s->ts_recent = tp->rx_opt.ts_recent;
	s->answered =
		!tp->bytes_received ||
		(tp->bytes_sent && (__s32)(tp->lsndtime - tp->inet_conn.icsk_ack.lrcvtime) >= 0);
	/* While nothing waits to be read it takes such text, as it always did (tcp_sequence). */
	s->whole = tp->inet_conn.icsk_inet.sk.sk_receive_queue.qlen &&
		   bpf_core_enum_value_exists(enum skb_drop_reason___window,
					      SKB_DROP_REASON_TCP_INVALID_END_SEQUENCE);
	s->fin = state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING;
	s->rcv_nxt -= s->fin;
	s->state = SOURCE_SYNCHRONIZED;
	/* Nobody reads any more: text is answered by RST (tcp_rcv_state_process). */
	if ((state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2) &&
	    (tp->inet_conn.icsk_inet.sk.sk_shutdown & RCV_SHUTDOWN))
		s->state = SOURCE_TIME_WAIT;
}

static __always_inline void ask_time_wait(struct tcp_timewait_sock *tw, struct source *s)
{
	s->rcv_nxt = tw->tw_sk.__tw_common.skc_tw_rcv_nxt;
	s->rcv_end = s->rcv_nxt;
	s->ts_recent = 0;
	s->ack_max = tw->tw_sk.__tw_common.skc_tw_snd_nxt;
	s->ack_min = s->ack_max;
	s->fin = tw->tw_sk.tw_substate != TCP_FIN_WAIT2;
	s->rcv_nxt -= s->fin;
	s->state = SOURCE_TIME_WAIT;
}

/* What the socket of that connection knows. Where none has it, *s stays as it is. */
GLOBAL int socket_ask(struct __sk_buff *skb, struct bpf_sock_tuple *t, __u32 size, struct source *s)
{
	struct tcp_timewait_sock *tw;
	struct tcp_request_sock *req;
	struct tcp_sock *tp;
	struct bpf_sock *sk;

	if (!t || !s)
		return 0;
	sk = SOCK_LOOKUP(bpf_skc_lookup_tcp, skb, t, size);
	if (!sk)
		return 0;
	switch (sk->state) {
	case TCP_NEW_SYN_RECV:
		req = bpf_skc_to_tcp_request_sock(sk);
		if (req)
			ask_request(req, s);
		break;
	case TCP_TIME_WAIT:
		tw = bpf_skc_to_tcp_timewait_sock(sk);
		if (tw)
			ask_time_wait(tw, s);
		break;
	case TCP_LISTEN:
	case TCP_CLOSE:
	case TCP_SYN_SENT:
		break;
	default:
		tp = bpf_skc_to_tcp_sock(sk);
		if (tp)
			ask_full(tp, sk, s);
	}
	bpf_sk_release(sk);
	return 0;
}

/*
 * The socket is asked first. Behind NAT it is found by the translated packet if it is one of this
 * network namespace (REDIRECT), and knows more than conntrack does. Any other is asked twice before
 * it is none's: before kernel 6.3 a look-up may miss one that takes the place of its request in the
 * established hash at that moment, since it enters after the request has left.
 */
static __always_inline void source_ask(struct __sk_buff *skb, struct bpf_sock_tuple *t, __u32 size,
				       struct source *s)
{
	__builtin_memset(s, 0, sizeof(*s));
	s->state = SOURCE_NONE;
	socket_ask(skb, t, size, s);
	if (s->state != SOURCE_NONE)
		return;
	conntrack_ask(skb, t, size, s);
	socket_ask(skb, t, size, s);
}

/*
 * Under SYN cookies a listener remembers nothing of a handshake: the ACK that completes it proves
 * itself, also with the first text behind it (bpf_tcp_check_syncookie, 5.2).
 */
GLOBAL int cookie_ask(struct __sk_buff *skb, const struct pkt *p, struct source *s)
{
	struct bpf_sock_tuple t = {};
	struct scratch_space *headers;
	struct bpf_sock *sk;
	__u32 zero = 0, size;
	long bad = -1;

	if (!p || !s)
		return 0;
	headers = bpf_map_lookup_elem(&scratch, &zero);
	if (!headers || bpf_skb_load_bytes(skb, IP_OFF, headers->data, sizeof(struct ipv6hdr)) ||
	    bpf_skb_load_bytes(skb, p->l4_off, headers->data + sizeof(struct ipv6hdr),
			       sizeof(struct tcp_header)))
		return 0;
	size = sock_tuple(&t, &p->saddr, p->sport, &p->daddr, p->dport);
	sk = SOCK_LOOKUP(bpf_skc_lookup_tcp, skb, &t, size);
	if (!sk)
		return 0;
	if (sk->state == TCP_LISTEN)
		bad = bpf_tcp_check_syncookie(sk, headers->data, sizeof(struct ipv6hdr),
					      (void *)(headers->data + sizeof(struct ipv6hdr)),
					      sizeof(struct tcp_header));
	bpf_sk_release(sk);
	if (bad)
		return 0;
	s->rcv_nxt = p->seq;
	s->rcv_end = p->seq + 65535;
	s->ack_min = p->ack;
	s->ack_max = p->ack;
	s->answered = 1;
	s->state = SOURCE_SYN_RECEIVED;
	return 0;
}

/* What the socket of this host that takes such a packet knows of its conversation. */
GLOBAL int socket_ask_packet(struct __sk_buff *skb, const struct pkt *p, struct source *s)
{
	struct bpf_sock_tuple t = {};

	if (!p || !s)
		return 0;
	source_ask(skb, &t, sock_tuple(&t, &p->saddr, p->sport, &p->daddr, p->dport), s);
	if (s->state == SOURCE_NONE && (p->flags & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK)
		cookie_ask(skb, p, s);
	return 0;
}

/* The same for a flow; any skb of the same namespace will do. */
GLOBAL int socket_ask_flow(struct __sk_buff *skb, const struct dp_flow_key *key, struct source *s)
{
	struct bpf_sock_tuple t = {};

	if (!key || !s)
		return 0;
	source_ask(skb, &t,
		   sock_tuple(&t, &key->client, key->client_port, &key->server, key->server_port),
		   s);
	return 0;
}

/* On a client host the packet knows its sender; what is forwarded has none. */
static __always_inline void socket_of_sender(struct __sk_buff *skb, struct source *s)
{
	s->state = skb->sk ? SOURCE_IS_REMOTE : SOURCE_UNSEEN;
}

#endif
