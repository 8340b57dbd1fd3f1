/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the target sends to the port of a flow of UDP: it is counted, and nobody gets it. */
#ifndef DOPPEL_UDP_RETURN_BPF_H
#define DOPPEL_UDP_RETURN_BPF_H

#include "flow/kept.bpf.h"
#include "netns.bpf.h"
#include "packet/csum_verify.bpf.h"
#include "socket.bpf.h"
#include "tcp/errors.bpf.h"
#include "tcp/shadow.bpf.h"
#include "udp/fragments.bpf.h"
#include "udp/parse.bpf.h"

/* Of memcached's frame, in front of each datagram (doc/protocol.txt, UDP protocol). */
#define MEMCACHED_FRAME 8

static __always_inline bool udp_is_for(const struct pkt *p, const struct dp_shadow *sh)
{
	return (sh->tcp.flags & DP_SH_UDP) && sh->ep.oif && addr_eq(&p->saddr, &sh->ep.address) &&
	       p->sport == sh->ep.target_port && addr_eq(&p->daddr, &sh->ep.shadow_addr);
}

/* An answer: did it have a meaning? */
static __always_inline void udp_answer(struct __sk_buff *skb, struct pkt *p, struct dp_ledger *l,
				       __u64 now)
{
	struct dp_mapping *m = mapping_at(p->mapping);
	bool error;

	l->answers += skb->gso_segs ?: 1;
	l->last.answered = now;
	error = answer_is_error(skb, p);
	if (!error && m && m->application != DP_APP_REDIS && p->payload > MEMCACHED_FRAME) {
		p->data_off += MEMCACHED_FRAME;
		p->payload -= MEMCACHED_FRAME;
		error = answer_is_error(skb, p);
	}
	if (error) {
		l->event[DP_EVENT_error_answer]++;
		l->last.erred = now;
	} else {
		l->last.served = now;
	}
}

static __always_inline int udp_return(struct __sk_buff *skb)
{
	struct fragment f = {.kind = FRAGMENT_CONSUMED, .ns = bpf_ktime_get_coarse_ns()}, *first;
	enum pkt_shape shape;
	struct dp_shadow *sh;
	struct dp_ledger *l;
	struct pkt p = {};
	__u32 place, slot;

	shape = udp_parse(skb, &p);
	if (shape == PKT_NONE || skb->pkt_type != PACKET_HOST)
		return TC_ACT_UNSPEC;
	if (shape == PKT_UDP_LATER) {
		first = fragment_of(&p);
		return first && first->kind == FRAGMENT_CONSUMED ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	}
	place = place_of_port(bpf_ntohs(p.dport));
	if (place >= cfg.ports)
		return TC_ACT_UNSPEC;
	slot = slot_of(&p.daddr, place);
	sh = shadow_at(slot);
	if (!sh || !udp_is_for(&p, sh) || is_martian(skb, sh) || !netns_is_ours(skb))
		return TC_ACT_UNSPEC;
	/* As for TCP: a remembered port is nobody's. */
	if (sh->tcp.state == DP_TIME_WAIT &&
	    (is_clients_own(slot, 0, 0) || udp_socket_exists_for(skb, &p)))
		return TC_ACT_UNSPEC;
	l = shadow_ledger(sh);
	if (shape == PKT_UDP_FIRST)
		fragment_note(&p, &f);
	if (!l || shape == PKT_MALFORMED)
		return TC_ACT_SHOT;
	if (shape == PKT_UDP && p.check && !checksum_ok(skb, &p)) {
		ledger_event(l, DP_EVENT_bad_checksum);
		return TC_ACT_SHOT;
	}
	l->responses += skb->gso_segs ?: 1;
	if (sh->tcp.state == DP_TIME_WAIT)
		ledger_event(l, DP_EVENT_late_response);
	p.mapping = sh->ep.key.mapping;
	sh->tcp.heard_ns = f.ns;
	if (p.payload)
		udp_answer(skb, &p, l, f.ns);
	return TC_ACT_SHOT;
}

#endif
