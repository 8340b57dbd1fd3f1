/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which flow a captured packet belongs to, and how one begins: with the client's handshake, or by
 * joining in mid-stream.
 */
#ifndef DOPPEL_BIRTH_BPF_H
#define DOPPEL_BIRTH_BPF_H

#include "flow/open.bpf.h"
#include "flow/join.bpf.h"
#include "flow/exclude.bpf.h"

#define JOIN_WSCALE 7 /* 8 MB, Linux' own choice for its default buffers */

static __noinline int note_syn(struct __sk_buff *skb, const struct pkt *p,
			       const struct dp_flow_key *key)
{
	struct tcp_options opt;
	struct noted_syn syn = {};

	parse_options(skb, p, &opt);
	syn.isn = p->seq;
	syn.tsval = opt.tsval;
	syn.mss = opt.mss;
	syn.wscale = opt.wscale;
	syn.flags = opt.flags;
	syn.auth = opt.auth;
	syn.data = p->payload != 0;
	syn.ttl = p->ttl;
	bpf_map_update_elem(&syns, key, &syn, BPF_ANY);
	return 0;
}

/*
 * On a server only what a socket of it takes, on a client host only what its socket sends for the
 * first time: TC comes before tcp_event_new_data_sent(). What is forwarded or seen on a mirror
 * port has no socket here, and needs no proof.
 */
static __always_inline bool source_accepts(struct __sk_buff *skb, const struct pkt *p,
					   const struct dp_mapping *m)
{
	struct bpf_tcp_sock *tp;
	struct bpf_sock *sk;

	if (m->flags & DP_MAP_ANY_HOST)
		return true;
	if (!(m->flags & DP_MAP_EGRESS))
		return socket_expects(skb, p);
	sk = skb->sk;
	if (!sk || !p->payload)
		return true;
	sk = bpf_sk_fullsock(sk);
	tp = sk ? bpf_tcp_sock(sk) : NULL;
	return !tp || !seq_before(p->seq, tp->snd_nxt);
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

/* What flow_find and flow_open return: slot | gen << 32, or one of these. */
#define FIND_DONE  (-1ll)
#define FIND_BIRTH (-2ll)
#define FIND_JOIN  (-3ll) /* it is known, and may join here */

static __always_inline __s64 flow_found(const struct dp_flow *flow)
{
	return ((__u64)(flow->gen & 0x7fffffff) << 32) | flow->slot;
}

static __always_inline bool is_paused(void)
{
	__u32 zero = 0;
	struct dp_control *c = bpf_map_lookup_elem(&control, &zero);

	return c && c->paused;
}

static __always_inline bool flow_may_retry(const struct dp_flow *flow)
{
	__u32 now = bpf_ktime_get_coarse_ns() >> DP_RETRY_SHIFT;

	return !flow->retry || (__s32)(now - flow->retry) >= 0;
}

/* The flow of the packet. Done: it has no shadow and is accounted for. */
GLOBAL long flow_find(struct __sk_buff *skb, const struct pkt *p, __u32 which)
{
	__u32 t = which & 0xff, idx = (which >> 8) & 0xff;
	struct dp_flow_key key = {};
	struct dp_target *target;
	struct dp_flow *flow;
	struct dp_mapping *m;
	struct dp_ledger *l;

	m = bpf_map_lookup_elem(&mappings, &idx);
	l = ledger_cell(idx, t);
	if (!p || !m || !l || t >= DP_MAX_TARGETS)
		return FIND_DONE;
	target = target_at(m, t);
	/* What goes to the target itself is a client's own business, or our copy. */
	if (p->daddr == target->address.w[3] && p->dport == bpf_htons(target->port + (which >> 16)))
		return FIND_DONE;
	l->captured += skb->gso_segs ?: 1;
	flow_key(&key, p, which);
	if ((p->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
		note_syn(skb, p, &key);
		return FIND_DONE;
	}
	/* RFC 9293, 3.10.7.4: a segment of an open connection has ACK, and no SYN. */
	if ((p->flags & TCP_SYN) || !(p->flags & (TCP_ACK | TCP_RST)))
		return FIND_DONE;
	flow = bpf_map_lookup_elem(&flows, &key);
	/* Before kernel 6.2 a deletion may fail when it meets a look-up on its own CPU (-EBUSY). */
	if (flow && flow->slot == DP_SLOT_GONE) {
		bpf_map_delete_elem(&flows, &key);
		flow = NULL;
	}
	if (flow && is_paused()) {
		exclude_late(skb, p, which, DP_EXCLUDED_paused);
		return FIND_DONE;
	}
	if (flow && new_incarnation(p, &key, flow) && source_accepts(skb, p, m)) {
		/* The former connection drains on its own; its flow's place is the new one's. */
		__u32 slot = flow->slot, gen = flow->gen;

		if (flow_claim(flow, slot, gen, DP_SLOT_GONE)) {
			bpf_map_delete_elem(&flows, &key);
			if (slot == DP_NO_SLOT)
				l->waiting--;
		}
		if (slot != DP_NO_SLOT &&
		    flow_detach_shadow(skb, slot, gen, DP_LOST_superseded, DP_EXCLUDED_N))
			flow_send_rest(skb, slot, gen, l);
		flow = NULL;
	}
	if (!flow) {
		if (p->saddr == target->address.w[3])
			ledger_exclude(l, DP_EXCLUDED_loop, p->payload);
		else if (p->ttl <= 1)
			ledger_exclude(l, DP_EXCLUDED_hops, p->payload);
		else
			return FIND_BIRTH;
		return FIND_DONE;
	}
	if (flow->slot == DP_NO_SLOT) {
		/* A stranger must not move where the flow stands. */
		if (p->payload && flow->seen && p->seq != flow->next &&
		    !source_accepts(skb, p, m)) {
			ledger_event(l, DP_EVENT_no_socket);
			return FIND_DONE;
		}
		if (flow->excluded != DP_EXCLUDED_tcp_auth && !(m->flags & DP_MAP_JOIN_NEVER) &&
		    p->ttl > 1 && join_boundary(skb, p, flow, m->application, limit_of(idx, t)) &&
		    flow_may_retry(flow))
			return FIND_JOIN;
		exclude_segment(p, &key, l, flow);
		return FIND_DONE;
	}
	if (m->max_bps && p->payload) {
		struct dp_limit *limit = limit_of(idx, t);

		if (limit && limit_exceeded(m, limit, bpf_ktime_get_coarse_ns(), p->payload)) {
			flow_shed(skb, p, which);
			exclude_late(skb, p, which, DP_EXCLUDED_shed);
			return FIND_DONE;
		}
	}
	return flow_found(flow);
}

/* Slot and shadow for the flow, and a SYN on its way. Slot, or -1 - enum dp_excluded, or
 * -1 - OPEN_RACE.
 */
static __always_inline int flow_open_shadow(struct __sk_buff *skb, const struct dp_flow_key *key,
					    struct flow_start *b, struct dp_ledger *l)
{
	struct txreq syn = {.kind = TXREQ_SEGMENT, .segment = {.seq = b->isn, .flags = TCP_SYN}};
	struct dp_shadow *sh;
	int slot, why;

	if (!limit_may_open(key->mapping, key->target))
		return -1 - DP_EXCLUDED_embryonic;
	slot = claim_port(skb, key->mapping * DP_MAX_TARGETS + key->target, b->target_port);
	if (slot < 0)
		return -1 - DP_EXCLUDED_ports_exhausted;
	b->slot = slot;
	why = flow_bind(skb, key, b);
	if (why)
		return why == OPEN_RACE ? -1 - OPEN_RACE : -why;
	sh = shadow_at(slot);
	if (!sh)
		return -1 - OPEN_RACE;
	syn.slot = slot;
	syn.gen = sh->gen;
	if (txreq_clone(skb, &syn, 0))
		ledger_event(l, DP_EVENT_clone_failed);
	return slot;
}

/*
 * The first segment after a SYN with text: it begins behind what the source has taken of that,
 * which no shadow will get.
 */
GLOBAL int exclude_syn_data(struct __sk_buff *skb, const struct pkt *p, __u32 which)
{
	__u32 idx = (which >> 8) & 0xff, n;
	struct dp_flow_key key = {};
	struct dp_mapping *m;
	struct noted_syn *syn;

	m = bpf_map_lookup_elem(&mappings, &idx);
	if (!p || !m)
		return 0;
	flow_key(&key, p, which);
	syn = bpf_map_lookup_elem(&syns, &key);
	if (!syn)
		return 0;
	n = p->seq - (syn->isn + 1);
	if (n && n <= 0xffff && source_accepts(skb, p, m))
		ledger_exclude(ledger_cell(idx, key.target), DP_EXCLUDED_not_joined, n);
	if (n || p->payload)
		bpf_map_delete_elem(&syns, &key);
	return 0;
}

/* A flow that has no shadow, for now or for good: it is remembered, with the reason. */
GLOBAL long flow_wait(struct __sk_buff *skb, const struct pkt *p, __u32 which, __u32 why)
{
	struct dp_flow flow = {.slot = DP_NO_SLOT, .excluded = why};
	struct dp_flow_key key = {};
	struct dp_ledger *l;
	struct noted_syn *syn;
	struct dp_flow *f;

	if (!p)
		return FIND_DONE;
	flow_key(&key, p, which);
	l = ledger_cell(key.mapping, key.target);
	if (!l)
		return FIND_DONE;
	if (!bpf_map_update_elem(&flows, &key, &flow, BPF_NOEXIST))
		l->waiting++;
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f) {
		ledger_exclude(l, DP_EXCLUDED_table_full, p->payload);
		bpf_map_delete_elem(&syns, &key); /* its first bytes are gone: it may only join */
		return FIND_DONE;
	}
	if (f->slot != DP_NO_SLOT)
		return flow_found(f);
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
	return FIND_DONE;
}

/* A flow that is not known yet, starts anew, or may join. */
GLOBAL long flow_open(struct __sk_buff *skb, const struct pkt *p, __u32 which, bool join)
{
	__u32 t = which & 0xff, idx = (which >> 8) & 0xff, excluded = DP_EXCLUDED_not_joined;
	struct dp_flow_key key = {};
	struct flow_start b = {};
	struct dp_mapping *m;
	struct dp_ledger *l;
	struct dp_flow *f;
	struct noted_syn *syn;
	bool open = false;
	int slot;

	m = bpf_map_lookup_elem(&mappings, &idx);
	l = ledger_cell(idx, t);
	if (!p || !m || !l || t >= DP_MAX_TARGETS)
		return FIND_DONE;
	flow_key(&key, p, which);
	b.ttl = p->ttl - 1;
	b.target_port = bpf_htons(target_at(m, t)->port + (which >> 16));
	f = bpf_map_lookup_elem(&flows, &key);
	syn = f ? NULL : bpf_map_lookup_elem(&syns, &key);
	if (syn && syn->auth) {
		excluded = DP_EXCLUDED_tcp_auth;
	} else if (is_paused()) {
		excluded = DP_EXCLUDED_paused;
	} else if (syn && !(p->flags & TCP_RST) && p->seq - (syn->isn + 1) <= cfg.flow_cap &&
		   (!syn->data || (p->payload && p->seq == syn->isn + 1))) {
		/* Also when the first segment comes second: it will fill the hole. Text in the SYN
		 * (RFC 7413) is not kept; the stream is whole only if it comes again.
		 */
		b.isn = syn->isn;
		b.tsval = syn->tsval;
		b.flags = syn->flags;
		b.wscale = syn->wscale;
		open = true;
	} else if (m->flags & DP_MAP_JOIN_NEVER) {
		excluded = DP_EXCLUDED_join_never;
	} else if (f ? join : join_at_once(skb, p, m->application, limit_of(idx, t))) {
		/* Design, 4.9: a SYN of our own, right before the request. */
		b.isn = p->seq - 1;
		b.tsval = p->tsval;
		b.flags = DP_SH_JOINED | DP_SH_SACK | DP_SH_WSCALE | (p->has_ts ? DP_SH_TS : 0);
		b.wscale = JOIN_WSCALE;
		b.breaks = f ? f->breaks : 0;
		open = true;
	}
	if (syn && syn->data)
		exclude_syn_data(skb, p, which);
	/* What the source does not take is not part of any stream, and is not observed. */
	if ((open || (!f && p->payload)) && !source_accepts(skb, p, m)) {
		if (p->payload)
			ledger_event(l, DP_EVENT_no_socket);
		return FIND_DONE;
	}
	if (open) {
		slot = flow_open_shadow(skb, &key, &b, l);
		if (slot >= 0 && !(b.flags & DP_SH_JOINED))
			bpf_map_delete_elem(&syns, &key);
		f = bpf_map_lookup_elem(&flows, &key);
		if (f && f->slot != DP_NO_SLOT)
			return flow_found(f);
		if (slot < 0 && slot != -1 - OPEN_RACE) {
			excluded = -1 - slot;
			if (f)
				f->excluded = excluded;
		}
	}
	return p->payload ? flow_wait(skb, p, which, excluded) : FIND_DONE;
}

#endif
