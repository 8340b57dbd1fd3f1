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
#include "flow/judge.bpf.h"
#include "flow/mapping.bpf.h"
#include "flow/open.bpf.h"
#include "flow/reclaim.bpf.h"
#include "keys/follow.bpf.h"
#include "packet/csum_verify.bpf.h"
#include "tcp/enqueue.bpf.h"

/* enum judged, after flow_judge(). */
static __always_inline __u32 judged_by(const struct source *s, const struct verdict *v)
{
	struct dp_shadow *sh = shadow_at(v->slot);

	if (!source_is_known(s))
		return JUDGED_UNSEEN;
	return sh && seq_before(s->rcv_nxt, sh->tcp.end) ? JUDGED_BEHIND : JUDGED_BY_SOCKET;
}

/*
 * The packet for the shadow of its flow. True: the flow has left the shadow, and the packet may
 * begin the next; or another CPU has ended it, and the flow must be looked at anew.
 */
static __always_inline bool capture_shadow(struct __sk_buff *skb, const struct pkt *p,
					   const struct dp_mapping *m, struct source *s,
					   struct verdict *v)
{
	/* TCP drops a signature on a connection that has none (RFC 2385, RFC 5925). */
	if (p->payload && !p->plain && segment_is_signed(skb, p)) {
		ledger_event(ledger_cell(p->mapping, p->target), DP_EVENT_no_socket);
		return false;
	}
	/*
	 * Text that continues the stream is asked for, too: the source may have closed, or its
	 * window be shut, and what it drops is said again on another connection.
	 */
	if (p->payload)
		source_look(skb, p, m, s);
	for (int i = 0; i < 2; i++) {
		v->kind = VERDICT_ASK;
		if (!p->payload || source_accepts(s, p))
			enqueue(skb, p, v, JUDGED_BY_NOBODY);
		if (v->kind == VERDICT_ASK) {
			source_look(skb, p, m, s);
			flow_judge(skb, p, s, v);
			if (v->kind == VERDICT_SHADOW)
				enqueue(skb, p, v, judged_by(s, v));
		}
		if (v->kind != VERDICT_BREAK || v->reason != DP_LOST_store_full || i ||
		    !store_make_room(skb, v->slot, p->payload))
			break;
	}
	switch (v->kind) {
	case VERDICT_DONE:
		/* Where no socket can tell, a hole that is filled is filled for good. */
		if (!v->more)
			return false;
		source_look(skb, p, m, s);
		if (s->state != SOURCE_UNSEEN && s->state != SOURCE_IS_REMOTE)
			return false;
		shadow_confirm_ahead(v->slot, v->gen);
		flow_send_rest(skb, v->slot, v->gen, ledger_cell(p->mapping, p->target));
		return false;
	case VERDICT_WORK:
		flow_send_rest(skb, v->slot, v->gen, ledger_cell(p->mapping, p->target));
		return false;
	case VERDICT_GAP:
		return flow_leave(skb, p, DP_EXCLUDED_not_joined, true, v->taken);
	case VERDICT_CLOSED:
		return flow_leave(skb, p, DP_EXCLUDED_not_joined, false, 0);
	case VERDICT_GONE:
		return true;
	case VERDICT_BAR:
		flow_leave(skb, p, v->reason, false, 0);
		break;
	case VERDICT_SOURCE_GONE:
		shadow_confirm_ahead(v->slot, v->gen);
		flow_source_gone(skb, p);
		return false;
	case VERDICT_BREAK:
		flow_break_shadow(skb, v->slot, v->gen, v->reason);
		break;
	default:
		break;
	}
	exclude_late(skb, p, DP_EXCLUDED_backoff, s);
	return false;
}

/* Paused, or over the ceiling: then the whole flow leaves. */
static __always_inline void capture_late(struct __sk_buff *skb, const struct pkt *p, __u32 why,
					 struct source *s)
{
	if (why == DP_EXCLUDED_shed)
		flow_leave(skb, p, why, false, 0);
	exclude_late(skb, p, why, s);
}

/* True: as for capture_shadow(). */
static __always_inline bool capture_flow(struct __sk_buff *skb, const struct pkt *p,
					 const struct dp_mapping *m, struct source *s)
{
	struct verdict v = {};

	flow_find(skb, p, s, &v);
	if (v.kind == VERDICT_BEGIN || v.kind == VERDICT_JOIN)
		flow_open(skb, p, s, &v);
	if (v.kind == VERDICT_EXCLUDE)
		exclude_flow(skb, p, v.reason, s, &v);
	else if (v.kind == VERDICT_LATE)
		capture_late(skb, p, v.reason, s);
	return v.kind == VERDICT_GONE ||
	       (v.kind == VERDICT_SHADOW && capture_shadow(skb, p, m, s, &v));
}

/* One packet for one target: p->target. */
static __always_inline void capture_target(struct __sk_buff *skb, const struct pkt *p,
					   const struct dp_mapping *m, struct source *s)
{
	ledger_captured(p->mapping, p->target, skb->gso_segs ?: 1);
	if (!capture_flow(skb, p, m, s) || !capture_flow(skb, p, m, s))
		return;
	/* Another CPU is just ending the shadow: two looks are shorter than that. */
	ledger_event(ledger_cell(p->mapping, p->target), DP_EVENT_contended);
	exclude_late(skb, p, DP_EXCLUDED_backoff, s);
}

/* A packet for a mapping that no shadow can take. */
static __always_inline void capture_unusable(struct __sk_buff *skb, enum pkt_shape shape,
					     const struct pkt *p, struct source *s)
{
	switch (shape) {
	case PKT_FRAGMENT:
		exclude_hole(skb, p, DP_EXCLUDED_fragment, s);
		break;
	case PKT_IPOPTIONS:
		exclude_hole(skb, p, DP_EXCLUDED_ip_options, s);
		break;
	case PKT_TRUNCATED:
		exclude_hole(skb, p, DP_EXCLUDED_truncated, s);
		break;
	default:
		ledger_event(ledger_cell(p->mapping, p->target), DP_EVENT_malformed);
	}
}

/*
 * Map `copying`: per-CPU array[1], the packet of which doppel_copies makes the further copies; used
 * only where bottom halves are off.
 */
struct copying {
	struct pkt p;
	struct source s;
	__u32 shape; /* enum pkt_shape */
	__u32 busy;  /* a copy on its way that is captured has no place here */
};
DP_ASSERT(sizeof(struct copying) <= COPYING_SIZE, "the map's rows are too small");

static __always_inline struct copying *copying_room(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&copying, &zero);
}

/*
 * The further copies of a packet are made by a program of their own: it has a stack of its own, and
 * the usual path has nothing of them to carry, nor the verifier to walk.
 */
static __always_inline void copies_begin(struct __sk_buff *skb, enum pkt_shape shape,
					 const struct pkt *p, const struct source *s)
{
	struct copying *c = copying_room();

	if (!c || c->busy)
		return;
	c->p = *p;
	c->s = *s;
	c->shape = shape;
	bpf_tail_call(skb, &copies, 0);
}

struct copy_walk {
	struct __sk_buff *skb;
	struct dp_mapping *m;
};

/* The copy 1 + i of the packet, for copying.p.target. */
static long copy_one(__u32 i, struct copy_walk *w)
{
	struct copying *c = copying_room();

	if (!c)
		return 1;
	c->p.copy = i + 1;
	if (c->shape == PKT_TCP)
		capture_target(w->skb, &c->p, w->m, &c->s);
	else
		capture_unusable(w->skb, c->shape, &c->p, &c->s);
	return 0;
}

static __always_inline int capture(struct __sk_buff *skb, __u32 direction)
{
	enum pkt_shape shape;
	struct dp_mapping *m;
	struct source s = {};
	struct pkt p = {};

	shape = parse(skb, &p);
	if (shape == PKT_NONE) {
		bpf_tail_call(skb, &udp_programs, DP_UDP_INGRESS + direction);
		return TC_ACT_UNSPEC;
	}
	m = mapping_of(skb, &p, direction);
	if (!m)
		return TC_ACT_UNSPEC;
	if (shape == PKT_TCP) {
		if ((p.payload || (p.flags & (TCP_SYN | TCP_FIN | TCP_RST))) &&
		    !checksum_ok(skb, &p)) {
			ledger_event(ledger_cell(p.mapping, 0), DP_EVENT_bad_checksum);
			return TC_ACT_UNSPEC;
		}
		/* Text of a RST is no part of the stream (RFC 9293, 3.5.3). */
		if (p.flags & TCP_RST)
			p.payload = 0;
		if (!(p.flags & TCP_SYN)) {
			parse_timestamp(skb, &p);
			if (p.payload && !p.plain)
				parse_odd_timestamp(skb, &p);
		}
	}
	for (__u32 t = 0; t < DP_MAX_TARGETS; t++) {
		if (t >= m->n_targets)
			break;
		p.target = t;
		if (shape == PKT_TCP)
			capture_target(skb, &p, m, &s);
		else
			capture_unusable(skb, shape, &p, &s);
	}
	/* On a client's host nobody asks the source, and each instruction is one to verify. */
	if (direction == DP_DIR_INGRESS && shape == PKT_TCP)
		keys_follow(skb, &p, m);
	/* No template is made of what parse() could not read whole. */
	if (shape == PKT_TCP)
		clock_look(skb);
	if (m->flags & DP_MAP_COPIES)
		copies_begin(skb, shape, &p, &s);
	return TC_ACT_UNSPEC;
}

/* Nearly every packet of a host is one that no mapping wants: checked without a full parse. */
static __always_inline int look(struct __sk_buff *skb, __u32 direction)
{
	__s32 port = peek_port(skb);

	if (port == PEEK_OTHER || (port >= 0 && !port_wanted(port)))
		return TC_ACT_UNSPEC;
	if (!peek_is_udp(port))
		return capture(skb, direction);
	bpf_tail_call(skb, &udp_programs, DP_UDP_INGRESS + direction);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int doppel_ingress(struct __sk_buff *skb)
{
	return look(skb, DP_DIR_INGRESS);
}

SEC("tc")
int doppel_egress(struct __sk_buff *skb)
{
	return look(skb, DP_DIR_EGRESS);
}

/* The copies of a packet after the first one, by copies_begin(). */
SEC("tc")
int doppel_copies(struct __sk_buff *skb)
{
	struct copying *c = copying_room();
	struct copy_walk w = {.skb = skb};
	__u32 n;

	if (!c || c->busy)
		return TC_ACT_UNSPEC;
	w.m = mapping_at(c->p.mapping);
	if (!w.m)
		return TC_ACT_UNSPEC;
	c->busy = 1;
	for (__u32 t = 0; t < DP_MAX_TARGETS; t++) {
		if (t >= w.m->n_targets)
			break;
		n = target_at(w.m, t)->copies;
		c->p.target = t;
		if (n > 1 && n <= DP_MAX_COPIES)
			bpf_loop(n - 1, copy_one, &w, 0);
	}
	c->busy = 0;
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
