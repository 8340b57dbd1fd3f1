/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows without a shadow: what such a flow says is observed, once for every byte, and excluded with
 * the reason.
 */
#ifndef DOPPEL_EXCLUDE_BPF_H
#define DOPPEL_EXCLUDE_BPF_H

#include "flow/acceptable.bpf.h"
#include "flow/flow.bpf.h"
#include "tcp/shadow.bpf.h"

/*
 * How many bytes of this segment, and of any hole before it, are new to a flow that is not
 * mirrored. The source takes no byte behind a hole before it has those in it, so they were or
 * will be on this wire, too: counted here, and not when they come. A jump too long for a hole is
 * none: the flow went another way for a while.
 *
 * `base`: where the flow stands if this is the first such segment of it (known = true).
 */
static __always_inline __u32 exclude_new_bytes(const struct pkt *p, struct dp_flow *flow,
					       __u32 base, bool known)
{
	__u32 to = p->seq + p->payload, n = p->payload, gap;

	bpf_spin_lock(&flow->lock);
	if (!flow->seen && known) {
		flow->next = base;
		flow->seen = 1;
	}
	if (n && flow->seen) {
		gap = to - flow->next;
		if ((__s32)gap <= 0)
			n = 0;
		else if (gap <= DP_MAX_CAP)
			n = gap;
	}
	if (n) {
		flow->next = to;
		flow->ack = p->ack;
		flow->push = !!(p->flags & TCP_PSH);
		flow->seen = 1;
		flow->ack_valid = 1;
	}
	bpf_spin_unlock(&flow->lock);
	return n;
}

/* A segment of a flow without a shadow. */
static __always_inline void exclude_segment(const struct pkt *p, const struct dp_flow_key *key,
					    struct dp_ledger *l, struct dp_flow *flow)
{
	ledger_exclude(l, flow->excluded, exclude_new_bytes(p, flow, 0, false));
	flow->seen_ns = bpf_ktime_get_coarse_ns();
	if ((p->flags & (TCP_FIN | TCP_RST)) && flow_claim(flow, DP_NO_SLOT, 0, DP_SLOT_GONE)) {
		bpf_map_delete_elem(&flows, key);
		l->waiting--;
	}
}

/*
 * A segment that its flow's shadow cannot take any more: it has just ended, or (paused) takes
 * nothing. The flow may be bound to it still, or wait already.
 */
GLOBAL int exclude_late(struct __sk_buff *skb, const struct pkt *p, __u32 why)
{
	struct dp_flow_key key = {};
	struct dp_shadow *sh;
	struct dp_ledger *l;
	struct dp_flow *flow;
	__u32 base;

	if (!p)
		return 0;
	flow_key(&key, p);
	l = ledger_cell(key.mapping, key.target);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow || !l)
		return 0;
	if (flow->slot == DP_NO_SLOT) {
		exclude_segment(p, &key, l, flow);
		return 0;
	}
	sh = shadow_at(flow->slot);
	if (!sh || sh->gen != flow->gen)
		return 0;
	bpf_spin_lock(&sh->lock);
	base = shadow_is_open(sh) ? shadow_captured_end_locked(sh) : sh->tcp.captured_end;
	bpf_spin_unlock(&sh->lock);
	ledger_exclude(l, why, exclude_new_bytes(p, flow, base, true));
	return 0;
}

/*
 * The first segment after a SYN with payload (RFC 7413): it begins behind what the source has taken
 * of that, which no shadow will get.
 */
GLOBAL int exclude_syn_data(struct __sk_buff *skb, const struct pkt *p)
{
	struct dp_flow_key key = {};
	struct noted_syn *syn;
	struct dp_mapping *m;
	__u32 n;

	if (!p)
		return 0;
	m = mapping_at(p->mapping);
	if (!m)
		return 0;
	flow_key(&key, p);
	syn = bpf_map_lookup_elem(&syns, &key);
	if (!syn)
		return 0;
	n = p->seq - (syn->isn + 1);
	if (n && n <= 0xffff && source_accepts(skb, p, m))
		ledger_exclude(ledger_cell(key.mapping, key.target), DP_EXCLUDED_not_joined, n);
	if (n || p->payload)
		bpf_map_delete_elem(&syns, &key);
	return 0;
}

/*
 * A flow that has no shadow, for now or for good, is remembered with the reason, and its segment
 * excluded. `v`: VERDICT_SHADOW when another CPU has bound the flow meanwhile, else VERDICT_DONE.
 */
GLOBAL int exclude_flow(struct __sk_buff *skb, const struct pkt *p, __u32 why, struct verdict *v)
{
	struct dp_flow flow = {.slot = DP_NO_SLOT, .excluded = why};
	struct dp_flow_key key = {};
	struct noted_syn *syn;
	struct dp_ledger *l;
	struct dp_flow *f;

	if (!p || !v)
		return 0;
	v->kind = VERDICT_DONE;
	flow_key(&key, p);
	l = ledger_cell(key.mapping, key.target);
	if (!l)
		return 0;
	if (!bpf_map_update_elem(&flows, &key, &flow, BPF_NOEXIST))
		l->waiting++;
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f) {
		ledger_exclude(l, DP_EXCLUDED_table_full, p->payload);
		bpf_map_delete_elem(&syns, &key); /* its first bytes are gone: it may only join */
		return 0;
	}
	if (f->slot != DP_NO_SLOT) {
		flow_found(f, v);
		return 0;
	}
	/* Where its stream begins is known: also what comes before this is counted. */
	syn = bpf_map_lookup_elem(&syns, &key);
	if (syn && !syn->data) {
		__u32 isn = syn->isn;

		bpf_spin_lock(&f->lock);
		if (!f->seen) {
			f->next = isn + 1;
			f->seen = 1;
		}
		bpf_spin_unlock(&f->lock);
	}
	exclude_segment(p, &key, l, f);
	bpf_map_delete_elem(&syns, &key); /* its first bytes are gone: it may only join */
	return 0;
}

#endif
