/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The answer to a packet of the target's, made of that packet, or of clones of it. It goes back
 * where that came from; where the way to the target is by another device (asymmetric routes, two
 * NICs, a failover), it goes by that.
 */
#ifndef DOPPEL_ANSWER_BPF_H
#define DOPPEL_ANSWER_BPF_H

#include "packet/build.bpf.h"
#include "packet/send.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/input.bpf.h"

static __noinline int tcp_answer(struct __sk_buff *skb, struct dp_shadow *sh, __u32 slot,
				 const struct pkt *p, enum input_action act)
{
	struct dp_ledger *l = shadow_ledger(sh);
	struct txreq req = {.kind = TXREQ_WORK, .slot = slot, .gen = sh->gen};
	struct segment g = {.seq = acceptable_seq(sh), .flags = TCP_ACK};

	/* On lo it is as it was sent, and part of what conntrack knows: see send.bpf.h. */
	g.turn = skb->ifindex == sh->ep.oif && sh->ep.oif != DP_LOOPBACK;

	switch (act) {
	case INPUT_WORK:
		txreq_write(skb, &req);
		return bpf_redirect(cfg.link, 0);
	case INPUT_HALF_OPEN:
		req.kind = TXREQ_SEGMENT;
		req.segment.seq = p->ack;
		req.segment.flags = TCP_RST;
		if (txreq_clone(skb, &req, 0))
			ledger_event(l, DP_EVENT_clone_failed);
		req.segment.seq = shadow_iss(sh);
		req.segment.flags = TCP_SYN;
		if (txreq_clone(skb, &req, 0))
			ledger_event(l, DP_EVENT_clone_failed);
		return TC_ACT_SHOT;
	case INPUT_RST:
		g.seq = p->ack;
		g.flags = TCP_RST;
		break;
	case INPUT_ACK:
		break;
	default:
		return TC_ACT_SHOT;
	}
	if (segment_build(skb, slot, &g)) {
		ledger_event(l, DP_EVENT_build_failed);
		return TC_ACT_SHOT;
	}
	forget_marks(skb);
	return g.turn ? bpf_redirect(skb->ifindex, 0) : send_to_target(skb, sh, slot);
}

#endif
