// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Capture: sees every packet of the device, wants those of a mapping, and gives the verdict
 * TC_ACT_UNSPEC to all. It reads the original and writes nothing of it; what a failure costs
 * is a copy, which is counted, and never the packet.
 */
#include "flow/acceptable.bpf.h"
#include "flow/detach.bpf.h"
#include "flow/exclude.bpf.h"
#include "flow/find.bpf.h"
#include "flow/open.bpf.h"
#include "packet/csum_verify.bpf.h"
#include "tcp/enqueue.bpf.h"

/* One packet for one target: p->target. */
static __always_inline void capture_target(struct __sk_buff *skb, const struct pkt *p,
					   const struct dp_mapping *m)
{
	struct verdict v = {};

	flow_find(skb, p, &v);
	if (v.kind == VERDICT_BEGIN || v.kind == VERDICT_JOIN)
		flow_open(skb, p, &v);
	if (v.kind != VERDICT_SHADOW)
		return;
	enqueue(skb, p, &v);
	if (v.kind == VERDICT_DONE)
		return;
	if (v.kind == VERDICT_FAR) {
		/* Out of every window as well, it is not the stream's. */
		if (!source_accepts(skb, p, m))
			return;
		v.reason = DP_LOST_flow_cap;
	}
	if (v.kind != VERDICT_GONE)
		flow_break_shadow(skb, v.slot, v.gen, v.reason);
	exclude_late(skb, p, DP_EXCLUDED_backoff);
}

/* A packet for a mapping that no shadow can take, whatever its flow. */
static __always_inline void capture_unusable(enum pkt_shape shape, const struct pkt *p)
{
	struct dp_ledger *l = ledger_cell(p->mapping, p->target);

	if (shape == PKT_FRAGMENT)
		ledger_exclude(l, DP_EXCLUDED_fragment, p->payload);
	else if (shape == PKT_IPOPTIONS)
		ledger_exclude(l, DP_EXCLUDED_ip_options, p->payload);
	else
		ledger_event(l, DP_EVENT_malformed);
}

static __always_inline bool port_wanted(__u32 port)
{
	__u32 word = dp_port_word(0, port), *bits = bpf_map_lookup_elem(&ports, &word);

	return bits && (*bits & dp_port_bit(port));
}

/* The mapping that wants the packet, which it notes in *p; NULL: none does. */
static __always_inline struct dp_mapping *mapping_of(struct __sk_buff *skb, struct pkt *p,
						     __u32 direction)
{
	__u32 port = bpf_ntohs(p->dport);
	struct dp_port_key key = {.ifindex = skb->ifindex,
				  .port = port,
				  .proto = IPPROTO_TCP,
				  .direction = direction};
	struct dp_port_val *val;
	struct dp_mapping *m;

	if (!port_wanted(port))
		return NULL;
	val = bpf_map_lookup_elem(&port_map, &key);
	if (!val)
		return NULL;
	p->mapping = val->mapping;
	p->port_offset = val->offset;
	m = mapping_at(p->mapping);
	if (!m)
		return NULL;
	if (direction == DP_DIR_INGRESS && skb->pkt_type == PACKET_OTHERHOST &&
	    !(m->flags & DP_MAP_ANY_HOST))
		return NULL;
	/* What goes to a target itself is a client's own business, or a copy of ours on its way. */
	for (__u32 t = 0; t < DP_MAX_TARGETS; t++) {
		if (t < m->n_targets && addr_eq(&p->daddr, &m->target[t].address) &&
		    port - m->target[t].port <= m->ports)
			return NULL;
	}
	return m;
}

static __always_inline int capture(struct __sk_buff *skb, __u32 direction)
{
	enum pkt_shape shape;
	struct dp_mapping *m;
	struct pkt p = {};

	shape = parse(skb, &p);
	if (shape == PKT_NONE)
		return TC_ACT_UNSPEC;
	m = mapping_of(skb, &p, direction);
	if (!m)
		return TC_ACT_UNSPEC;
	if (shape == PKT_TCP) {
		if (p.payload && !checksum_ok(skb, &p)) {
			ledger_event(ledger_cell(p.mapping, 0), DP_EVENT_bad_checksum);
			return TC_ACT_UNSPEC;
		}
		if (!(p.flags & TCP_SYN))
			parse_timestamp(skb, &p);
	}
	for (__u32 t = 0; t < DP_MAX_TARGETS; t++) {
		if (t >= m->n_targets)
			break;
		p.target = t;
		if (shape == PKT_TCP)
			capture_target(skb, &p, m);
		else
			capture_unusable(shape, &p);
	}
	return TC_ACT_UNSPEC;
}

/* Nearly every packet of a host is one that no mapping wants: checked without a full parse. */
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
