/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What does not simply continue a shadow's stream is held against the source: what of the text
 * beyond a hole it has by now, whether it went on without us, and whether it takes this segment.
 */
#ifndef DOPPEL_JUDGE_BPF_H
#define DOPPEL_JUDGE_BPF_H

#include "flow/acceptable.bpf.h"
#include "flow/flow.bpf.h"
#include "presence.bpf.h"
#include "tcp/shadow.bpf.h"

/* On a mirror port: so far from where it was a client may be after frames were lost; bytes. */
#define UNSEEN_JUMP (1u << 30)
/* The same without an answer in between: a receive window, as large as hosts have them. */
#define UNSEEN_WINDOW (16u << 20)

/*
 * The source has every byte below `taken`: text that waited beyond a hole is part of the stream, as
 * far as it is there. fin: the client's FIN is at `taken`. Returns how many bytes below `taken` are
 * missing; 0 as well where there is more to look at than one event may.
 */
GLOBAL __u32 shadow_confirm(__u32 slot, __u32 gen, __u32 taken, bool fin)
{
	struct dp_shadow *sh = shadow_at(slot);
	__u32 from, to, end, gap, store_gen, added = 0, missing = 0;
	struct dp_ledger *l;

	if (!sh)
		return 0;
	l = shadow_ledger(sh);
	store_gen = sh->tcp.store_gen;
	from = sh->tcp.end;
	to = sh->tcp.ahead;
	gap = seq_gap(from, taken);
	end = from;
	if (gap && seq_after(to, from)) {
		if (to - from > gap)
			to = taken;
		end = presence_end(slot, store_gen, from, to);
	}
	bpf_spin_lock(&sh->lock);
	/* With another store_gen what was ahead has been given back meanwhile. */
	if (sh->gen == gen && shadow_is_open(sh) && sh->tcp.end == from &&
	    sh->tcp.store_gen == store_gen && !shadow_fin_placed(sh)) {
		added = end - from;
		sh->tcp.end = end;
		sh->tcp.observed += added;
		if (end - from < gap && !(end != from && seq_after(to, end) &&
					  end - from >= RUN_MAX_CHUNKS / 2 * DP_CHUNK))
			missing = taken - end;
		if (fin && end == taken) {
			sh->tcp.flags |= DP_SH_CLIENT_FIN;
			sh->tcp.fin = end;
		}
	}
	bpf_spin_unlock(&sh->lock);
	ledger_accept(l, added);
	return missing;
}

/*
 * Where no socket can tell, or none can any more: what waited beyond a hole follows as far as
 * nothing is missing. It was judged when it came, and so was what has filled the hole since.
 */
GLOBAL int shadow_confirm_ahead(__u32 slot, __u32 gen)
{
	struct dp_shadow *sh = shadow_at(slot);

	if (!sh)
		return 0;
	shadow_confirm(slot, gen, sh->tcp.ahead, false);
	bpf_spin_lock(&sh->lock);
	if (sh->gen == gen && (sh->tcp.flags & DP_SH_FIN_AHEAD) && sh->tcp.fin == sh->tcp.end)
		sh->tcp.flags |= DP_SH_CLIENT_FIN;
	bpf_spin_unlock(&sh->lock);
	return 0;
}

/*
 * Where no socket can tell, the client does: it has acknowledged more than when it last continued
 * the stream, so an answer came, and the source has what lies before this segment. A client host's
 * own TCP sends nothing before what comes first.
 */
static __always_inline __u32 taken_by_unseen(const struct source *s, const struct pkt *p,
					     const struct dp_shadow *sh)
{
	__u32 end = sh->tcp.end, gap = p->seq - end;

	/* A client that closes has waited for the last answer; one that only acknowledges may not.
	 */
	if (!gap || gap > UNSEEN_JUMP || (!p->payload && !(p->flags & TCP_FIN)))
		return end;
	if (s->state == SOURCE_IS_REMOTE || seq_after(p->ack, sh->tcp.ack_seen))
		return p->seq;
	return end;
}

/*
 * The source has the client's FIN. Its RCV.NXT counts that before its state tells of it
 * (tcp_data_queue, tcp_fin), and another CPU may look in between. Where there is text at the FIN's
 * place, too, that is what it counts: of two segments beyond a hole it keeps the one that holds all
 * of the other (tcp_data_queue_ofo).
 */
static __always_inline bool source_has_fin(const struct dp_shadow *sh, const struct source *s)
{
	return s->fin || ((sh->tcp.flags & (DP_SH_CLIENT_FIN | DP_SH_FIN_AHEAD)) &&
			  s->rcv_nxt == sh->tcp.fin + 1 &&
			  !(shadow_has_ahead(sh) && seq_after(sh->tcp.ahead, sh->tcp.fin)));
}

/* All of the client's text below it was taken, as the source's socket has it. */
static __always_inline __u32 source_taken(const struct dp_shadow *sh, const struct source *s)
{
	return !s->fin && source_has_fin(sh, s) ? s->rcv_nxt - 1 : s->rcv_nxt;
}

/*
 * The source has taken text behind the FIN that is in its place here: that was not the client's (a
 * command closed the shadow, or its target did), and the stream went on without us.
 */
static __always_inline bool went_on_behind_fin(const struct dp_shadow *sh, const struct source *s,
					       __u32 taken)
{
	return source_is_known(s) && shadow_fin_placed(sh) && seq_gap(sh->tcp.end, taken);
}

/*
 * `v` names the flow's shadow. v->kind then: SHADOW (the source takes the segment), DONE or WORK
 * (it does not, or nothing is new), GAP, or SOURCE_GONE.
 */
GLOBAL int flow_judge(struct __sk_buff *skb, const struct pkt *p, const struct source *s,
		      struct verdict *v)
{
	struct dp_shadow *sh;
	struct dp_ledger *l;
	__u32 taken, end;
	bool closed;

	if (!p || !s || !v)
		return 0;
	v->kind = VERDICT_DONE;
	sh = shadow_at(v->slot);
	if (!sh)
		return 0;
	l = shadow_ledger(sh);
	end = sh->tcp.end;
	closed = shadow_fin_placed(sh);
	if (s->state == SOURCE_NONE) {
		v->kind = VERDICT_SOURCE_GONE;
		return 0;
	}
	taken = source_is_known(s) ? source_taken(sh, s) : taken_by_unseen(s, p, sh);
	if (shadow_confirm(v->slot, v->gen, taken, source_has_fin(sh, s)) ||
	    went_on_behind_fin(sh, s, taken)) {
		v->kind = VERDICT_GAP;
		v->taken = taken;
		return 0;
	}
	if (sh->tcp.end != end || shadow_fin_placed(sh) != closed)
		v->kind = VERDICT_WORK;
	/* The source has closed, answers this by RST, and has no such connection from here on. */
	if (s->state == SOURCE_TIME_WAIT && !s->fin && p->payload && p->seq == s->rcv_nxt) {
		v->kind = VERDICT_SOURCE_GONE;
		return 0;
	}
	if (p->flags & TCP_RST) { /* RFC 5961, 3.2 */
		if (p->seq == sh->tcp.end)
			v->kind = VERDICT_SHADOW;
	} else if (source_accepts(s, p)) {
		if (source_is_known(s) || p->seq - sh->tcp.una + UNSEEN_WINDOW < 2 * UNSEEN_WINDOW)
			v->kind = VERDICT_SHADOW;
	} else if (p->payload && l) {
		if (seq_after(p->seq + p->payload, sh->tcp.end))
			l->event[DP_EVENT_no_socket]++;
		else
			l->event[DP_EVENT_client_retransmit]++;
	}
	return 0;
}

/*
 * A packet of the target's is a chance to ask, too: text or a FIN beyond a hole that has been
 * filled since may wait for nothing else. True: the shadow has more to send.
 */
GLOBAL int shadow_ask_source(struct __sk_buff *skb, __u32 slot, __u32 gen)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_mapping *m;
	struct source s = {};
	bool closed;
	__u32 end;

	if (!sh)
		return 0;
	m = mapping_at(sh->ep.key.mapping);
	if (!m || (m->flags & (DP_MAP_ANY_HOST | DP_MAP_EGRESS)))
		return 0;
	end = sh->tcp.end;
	closed = shadow_fin_placed(sh);
	socket_ask_flow(skb, &sh->ep.key, &s);
	if (source_is_known(&s))
		shadow_confirm(slot, gen, source_taken(sh, &s), source_has_fin(sh, &s));
	else if (s.state == SOURCE_NONE)
		shadow_confirm_ahead(slot, gen);
	return sh->tcp.end != end || shadow_fin_placed(sh) != closed;
}

#endif
