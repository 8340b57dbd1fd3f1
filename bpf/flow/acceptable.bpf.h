/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Is a captured segment the client's? The source decides: a stream is what the source's TCP took.
 * TC ingress comes before netfilter and before TCP, so what a stranger sends is captured, too, and
 * what the source resets. Its socket is asked for every text, and for what does not continue the
 * stream; where none can tell, what continues() is taken.
 */
#ifndef DOPPEL_ACCEPTABLE_BPF_H
#define DOPPEL_ACCEPTABLE_BPF_H

#include "flow/over.bpf.h"
#include "socket.bpf.h"
#include "tcp/shadow.bpf.h"

/*
 * How far the client's ACK may move on from one segment that continues the stream to the next.
 * A guess hits one time in 4,096 of what guesses the sequence number, too.
 */
#define ACK_SPAN (1u << 20)

/* RCV.NXT may lag behind what was captured by a backlog, but not by so much: it is ahead then. */
#define LAG_MAX (1u << 28)

/* Asks the source, once a packet. */
static __always_inline void source_look(struct __sk_buff *skb, const struct pkt *p,
					const struct dp_mapping *m, struct source *s)
{
	if (s->state != SOURCE_NOT_ASKED)
		return;
	if (m->flags & DP_MAP_ANY_HOST) {
		s->state = SOURCE_UNSEEN;
	} else if (m->flags & DP_MAP_EGRESS) {
		socket_of_sender(skb, s);
	} else {
		socket_ask_packet(skb, p, s);
	}
}

/* A socket of this host has the conversation, and its numbers are valid. */
static __always_inline bool source_is_known(const struct source *s)
{
	return s->state >= SOURCE_SYN_RECEIVED && s->state <= SOURCE_TIME_WAIT;
}

/*
 * May a request of a connection of which nothing was seen begin with this segment? The source has
 * taken all before it, and has answered since; the client has the whole answer. Where no socket can
 * tell, it may.
 */
static __always_inline bool source_awaits_request(const struct source *s, const struct pkt *p)
{
	return !source_is_known(s) || (s->rcv_nxt == p->seq && s->answered && p->ack == s->ack_max);
}

/* How far `to` lies behind `from`; 0: it does not. Up to nearly 4 GB, unlike seq_after(). */
static __always_inline __u32 seq_gap(__u32 from, __u32 to)
{
	__u32 gap = to - from;

	return gap < 0u - LAG_MAX ? gap : 0;
}

/*
 * Would the source's TCP take text or FIN of this segment, now or when a hole before it is filled?
 * RFC 9293, 3.10.7.4, first check; RFC 5961, 5.2, as tcp_ack() applies it; RFC 7323, 5.3 (PAWS),
 * with the one tick that Linux allows. Where no socket can tell, whatever comes is the client's.
 */
static __always_inline bool source_accepts(const struct source *s, const struct pkt *p)
{
	__u32 to = p->seq + p->payload, edge = seq_max(s->rcv_end, s->rcv_nxt);

	if (s->state == SOURCE_IS_REMOTE || s->state == SOURCE_UNSEEN)
		return true;
	if (s->state == SOURCE_TIME_WAIT) /* the client's FIN is all that it still waits for */
		return !s->fin && !p->payload && (p->flags & TCP_FIN) && p->seq == s->rcv_nxt;
	if (s->state != SOURCE_SYN_RECEIVED && s->state != SOURCE_SYNCHRONIZED)
		return false;
	/* Text at the edge is beyond it: what probes a shut window is dropped (tcp_data_queue). */
	if (p->payload ? !seq_before(p->seq, edge) : seq_after(p->seq, edge))
		return false;
	if (s->whole && seq_after(to + !!(p->flags & TCP_FIN), edge))
		return false;
	return !s->fin && !seq_before(to, s->rcv_nxt) &&
	       p->ack - s->ack_min <= s->ack_max - s->ack_min &&
	       (!p->has_ts || !s->ts_recent || (__s32)(s->ts_recent - p->tsval) <= 1);
}

/* Would it begin a connection with this SYN (RFC 9293, 3.10.7.4, fourth check; RFC 5961, 4)? */
static __always_inline bool source_accepts_syn(const struct source *s, const struct pkt *p)
{
	if (s->state == SOURCE_SYN_RECEIVED)
		return s->rcv_nxt == p->seq + 1;
	return s->state != SOURCE_SYNCHRONIZED;
}

/*
 * Does the segment continue, at `next`, the stream of a client whose last ACK was `ack`? Nothing
 * about it is judged any further then.
 */
static __always_inline bool continues(const struct pkt *p, __u32 next, __u32 ack)
{
	return p->seq == next && p->ack - ack <= ACK_SPAN &&
	       !(p->flags & (TCP_FIN | TCP_RST | TCP_SYN | TCP_URG));
}

/* The window of a SYN-ACK: no further is the first segment from its SYN. Bytes. */
#define SYN_REACH 65535

/* Where no socket can tell: the client has used its port again. The packet continues a SYN that is
 * not the shadow's. */
static __always_inline bool new_incarnation(const struct pkt *p, const struct dp_flow_key *key,
					    const struct dp_flow *flow)
{
	struct dp_shadow *sh = NULL;
	struct noted_syn *syn;

	if (flow->slot == DP_NO_SLOT) {
		if (flow->seen && p->seq == flow->next)
			return false;
	} else {
		sh = shadow_at(flow->slot);
		if (!sh || p->seq == sh->tcp.end)
			return false;
	}
	syn = syn_of(key);
	if (!syn || syn->isn + 1 != p->seq || (p->flags & TCP_RST))
		return false;
	/* A SYN that came twice is not a second connection. */
	return !sh || syn->isn != sh->tcp.isn;
}

#endif
