// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Capture: sees every packet of the device, wants those of a mapping, and gives the verdict
 * TC_ACT_UNSPEC to all. It reads the original and writes nothing of it; what a failure costs
 * is a copy, which is counted, and never the packet.
 */
#include "flow/find.bpf.h"
#include "packet/csum.bpf.h"
#include "tcp/enqueue.bpf.h"

/* One packet for one target. */
static __always_inline void capture_target(struct __sk_buff *skb, const struct pkt *p,
					   const struct dp_mapping *m, __u32 which)
{
	__s64 found = flow_find(skb, p, which);
	__u32 slot, gen;
	int taken;

	if (found == FIND_BIRTH || found == FIND_JOIN)
		found = flow_open(skb, p, which, found == FIND_JOIN);
	if (found < 0)
		return;
	slot = found;
	gen = found >> 32;
	taken = enqueue(skb, p, slot, gen);
	if (taken == TAKEN)
		return;
	if (taken == TAKEN_FAR) {
		/* Out of every window as well, it is not the stream's. */
		if (!source_accepts(skb, p, m))
			return;
		taken = TAKEN_BREAK + DP_LOST_flow_cap;
	}
	if (taken != TAKEN_GONE)
		flow_break_shadow(skb, slot, gen, taken - TAKEN_BREAK);
	exclude_late(skb, p, which, DP_EXCLUDED_backoff);
}

static __always_inline bool port_wanted(__u32 port)
{
	__u32 word = dp_port_word(0, port), *bits = bpf_map_lookup_elem(&ports, &word);

	return bits && (*bits & dp_port_bit(port));
}

static __always_inline int capture(struct __sk_buff *skb, __u32 direction)
{
	struct dp_port_key pk = {};
	struct pkt p = {};
	enum pkt_verdict v;
	__u32 port, idx;
	struct dp_port_val *pv;
	struct dp_mapping *m;

	v = parse(skb, &p);
	if (v == PKT_NONE)
		return TC_ACT_UNSPEC;
	port = bpf_ntohs(p.dport);
	if (!port_wanted(port))
		return TC_ACT_UNSPEC;
	pk.ifindex = skb->ifindex;
	pk.port = port;
	pk.proto = IPPROTO_TCP;
	pk.direction = direction;
	pv = bpf_map_lookup_elem(&port_map, &pk);
	if (!pv)
		return TC_ACT_UNSPEC;
	idx = pv->mapping;
	m = bpf_map_lookup_elem(&mappings, &idx);
	if (!m)
		return TC_ACT_UNSPEC;
	if (direction == DP_DIR_INGRESS && skb->pkt_type == PACKET_OTHERHOST &&
	    !(m->flags & DP_MAP_ANY_HOST))
		return TC_ACT_UNSPEC;
	/* What goes to a target itself is a client's own business, or a copy of ours on its way. */
	for (__u32 t = 0; t < DP_MAX_TARGETS; t++) {
		if (t < m->n_targets && p.daddr == m->target[t].address.w[3] &&
		    port - m->target[t].port <= m->ports)
			return TC_ACT_UNSPEC;
	}
	if (v == PKT_TCP) {
		if (p.payload && !checksum_ok(skb, &p)) {
			ledger_event(ledger_cell(idx, 0), DP_EVENT_bad_checksum);
			return TC_ACT_UNSPEC;
		}
		if (!(p.flags & TCP_SYN))
			parse_timestamp(skb, &p);
	}
	for (__u32 t = 0; t < DP_MAX_TARGETS; t++) {
		if (t >= m->n_targets)
			break;
		if (v == PKT_TCP)
			capture_target(skb, &p, m, t | idx << 8 | (__u32)pv->offset << 16);
		else if (v == PKT_FRAGMENT)
			ledger_exclude(ledger_cell(idx, t), DP_EXCLUDED_fragment, p.payload);
		else if (v == PKT_IPOPTIONS)
			ledger_exclude(ledger_cell(idx, t), DP_EXCLUDED_ip_options, p.payload);
		else
			ledger_event(ledger_cell(idx, t), DP_EVENT_malformed);
	}
	return TC_ACT_UNSPEC;
}

/* Nearly every packet of a host is one that no mapping wants: it costs a glance. */
static __always_inline bool may_be_wanted(struct __sk_buff *skb)
{
	__s32 port = peek_port(skb);

	return port == PEEK_UNKNOWN || (port >= 0 && port_wanted(port));
}

SEC("tc")
int doppel_ingress(struct __sk_buff *skb)
{
	return may_be_wanted(skb) ? capture(skb, DP_DIR_INGRESS) : TC_ACT_UNSPEC;
}

SEC("tc")
int doppel_egress(struct __sk_buff *skb)
{
	return may_be_wanted(skb) ? capture(skb, DP_DIR_EGRESS) : TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
