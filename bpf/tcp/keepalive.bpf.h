/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keepalives (RFC 9293, 3.8.4) on quiet shadows: firewalls and NATs on the way forget a connection
 * on which nothing is said. Whether the target answers is of no account here.
 */
#ifndef DOPPEL_KEEPALIVE_BPF_H
#define DOPPEL_KEEPALIVE_BPF_H

#include "packet/headers.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/shadow.bpf.h"

#define KEEPALIVE_LOOKS 16384 /* shadows for each tick; bounded work, below a millisecond */

struct keepalive {
	struct __sk_buff *skb; /* template */
	__u64 now;
	__u32 from; /* slot */
};

static __always_inline bool shadow_is_quiet(const struct dp_shadow *sh, __u64 now)
{
	return sh->tcp.state == DP_ESTABLISHED && sh->tcp.una == sh->tcp.nxt &&
	       sh->tcp.nxt == sh->tcp.end && !sh->tcp.due_ns &&
	       (__s64)(now - sh->tcp.heard_ns) >= (__s64)(cfg.keepalive_s * 1000000000ull);
}

static long keepalive_look(__u32 i, struct keepalive *k)
{
	struct txreq req = {.kind = TXREQ_SEGMENT, .slot = (k->from + i) % cfg.slots};
	struct dp_shadow *sh = shadow_at(req.slot);
	bool send;

	if (!sh || !shadow_is_quiet(sh, k->now))
		return 0;
	bpf_spin_lock(&sh->lock);
	send = shadow_is_quiet(sh, k->now) && sh->ep.oif;
	if (send) {
		sh->tcp.heard_ns = k->now;
		req.gen = sh->gen;
		req.segment.seq = sh->tcp.una - 1; /* the target has it, and says so */
		req.segment.flags = TCP_ACK;
	}
	bpf_spin_unlock(&sh->lock);
	if (send && !txreq_clone(k->skb, &req, 0))
		ledger_event(shadow_ledger(sh), DP_EVENT_keepalive);
	return 0;
}

/* One second's share of a pass, of which there are four for each `keepalive`. */
GLOBAL int keepalive_tick(struct __sk_buff *skb)
{
	struct keepalive k = {.skb = skb, .now = bpf_ktime_get_coarse_ns()};
	__u32 n, zero = 0;
	struct shadow_timer *t = bpf_map_lookup_elem(&timer, &zero);

	if (!t || !cfg.keepalive_s)
		return 0;
	k.from = t->keepalive_slot;
	n = cfg.slots * 4 / cfg.keepalive_s + 1;
	n = n < cfg.slots ? n : cfg.slots;
	n = n < KEEPALIVE_LOOKS ? n : KEEPALIVE_LOOKS;
	bpf_loop(n, keepalive_look, &k, 0);
	t->keepalive_slot = (k.from + n) % cfg.slots;
	return 0;
}

#endif
