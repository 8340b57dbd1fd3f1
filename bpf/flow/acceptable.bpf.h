/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Is a captured segment the client's? TC ingress comes before netfilter and before TCP, so what
 * a stranger sends is captured, too.
 */
#ifndef DOPPEL_ACCEPTABLE_BPF_H
#define DOPPEL_ACCEPTABLE_BPF_H

#include "socket.bpf.h"
#include "tcp/shadow.bpf.h"

/*
 * A flow may begin, and one without a shadow may move, only by what the source takes: on a server
 * what a socket of it takes, on a client host what its socket sends for the first time. What is
 * forwarded or seen on a mirror port has no socket here, and needs no proof.
 */
static __always_inline bool source_accepts(struct __sk_buff *skb, const struct pkt *p,
					   const struct dp_mapping *m)
{
	if (m->flags & DP_MAP_ANY_HOST)
		return true;
	if (!(m->flags & DP_MAP_EGRESS))
		return socket_expects(skb, p);
	return socket_sends_anew(skb, p);
}

/* A packet far from where the flow's stream stands: has the client reused its port? */
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
		if (!sh)
			return false;
		if (p->seq == sh->tcp.end || (!(sh->tcp.flags & DP_SH_CLIENT_FIN) &&
					      p->seq - sh->tcp.una <= cfg.flow_cap && p->payload))
			return false;
	}
	syn = bpf_map_lookup_elem(&syns, key);
	if (!syn || syn->isn + 1 != p->seq || (p->flags & TCP_RST))
		return false;
	/* A SYN that came twice is not a second connection. */
	return !sh || syn->isn != sh->tcp.isn;
}

#endif
