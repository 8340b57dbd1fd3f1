// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Deliver: TC hook of doppel0. What arrives with a request is a clone of ours and may be
 * rewritten freely; it leaves by route and neighbour (bpf_redirect_neigh, 5.10), so its source
 * MAC is always the sending device's. Anything else on doppel0 is dropped here.
 */
#include "tcp/recovery.bpf.h"
#include "packet/build.bpf.h"

/* Segments that one event may send: bounded work, and the ACK of any of them is the next event. */
#define TX_BURST       16
#define TX_BURST_LARGE 2

enum sent {
	SENT_NEW = 0,
	SENT_AGAIN,
	SENT_SYN_AGAIN,
	SENT_CONTROL,
};

/* What the shadow owes next. Claims it: after this call it counts as sent. */
static __always_inline bool next_segment_locked(struct dp_shadow *sh, struct segment *g, __u64 now,
						enum sent *kind)
{
	__u32 max = sh->tcp.mss < SEG_MAX_PAYLOAD ? sh->tcp.mss : SEG_MAX_PAYLOAD, left, room;

	*kind = SENT_CONTROL;
	g->len = 0;
	if (!shadow_is_open(sh)) {
		if (!(sh->tcp.flags & DP_SH_RST_OWED))
			return false;
		sh->tcp.flags &= ~DP_SH_RST_OWED;
		g->seq = sh->tcp.nxt;
		g->flags = TCP_RST | TCP_ACK;
		return true;
	}
	if (sh->tcp.flags & DP_SH_DUE) {
		sh->tcp.flags &= ~DP_SH_DUE;
		if (sh->tcp.state == DP_SYN_SENT) {
			g->seq = sh->tcp.isn;
			g->flags = TCP_SYN;
			*kind = SENT_SYN_AGAIN;
			return true;
		}
		if (sh->tcp.una == sh->tcp.nxt) {
			/* The window is shut: an old sequence number draws an ACK (RFC
			 * 9293, 3.8.6.1, the way Linux probes).
			 */
			g->seq = sh->tcp.una - 1;
			g->flags = TCP_ACK;
			return true;
		}
	}
	if (sh->tcp.state == DP_SYN_SENT)
		return false;
	if (recovery_pending_locked(sh)) {
		recovery_next_locked(sh, &g->seq, &g->len, max);
		g->flags = g->len ? TCP_ACK | TCP_PSH : TCP_ACK | TCP_FIN;
		sh->tcp.flags &= ~DP_SH_ACK_DUE;
		sh->tcp.resent++;
		*kind = SENT_AGAIN;
		return true;
	}
	if (shadow_may_send(sh)) {
		g->seq = sh->tcp.nxt;
		if (sh->tcp.una == sh->tcp.nxt || !sh->tcp.due_ns)
			shadow_restart_rto_locked(sh, now);
		sh->tcp.flags &= ~DP_SH_ACK_DUE;
		left = sh->tcp.end - sh->tcp.nxt;
		if (left) {
			room = shadow_window_end(sh) - sh->tcp.nxt;
			g->len = left < room ? left : room;
			if (g->len > max)
				g->len = max;
			g->flags = g->len == left ? TCP_ACK | TCP_PSH : TCP_ACK;
			sh->tcp.nxt += g->len;
			if (!(sh->tcp.flags & (DP_SH_TIMED | DP_SH_RECOVERY))) {
				sh->tcp.flags |= DP_SH_TIMED;
				sh->tcp.timed_seq = sh->tcp.nxt;
				sh->tcp.timed_ns = now;
			}
			*kind = SENT_NEW;
			return true;
		}
		g->flags = TCP_FIN | TCP_ACK;
		sh->tcp.nxt = sh->tcp.fin + 1;
		sh->tcp.state = sh->tcp.state == DP_CLOSE_WAIT ? DP_LAST_ACK : DP_FIN_WAIT;
		return true;
	}
	if (sh->tcp.flags & DP_SH_ACK_DUE) {
		sh->tcp.flags &= ~DP_SH_ACK_DUE;
		g->seq = acceptable_seq(sh);
		g->flags = TCP_ACK;
		return true;
	}
	return false;
}

struct work {
	struct __sk_buff *skb;
	struct dp_shadow *sh;
	struct dp_ledger *ledger;
	__u64 now;
	__u32 slot;
	__u32 gen;
};

static long work_one(__u32 i, struct work *w)
{
	struct dp_shadow *sh = w->sh;
	struct txreq req = {.kind = TXREQ_SEGMENT, .slot = w->slot, .gen = w->gen};
	struct shadow_totals totals = {};
	enum sent kind = SENT_CONTROL;
	bool some;

	bpf_spin_lock(&sh->lock);
	some = sh->gen == w->gen && next_segment_locked(sh, &req.segment, w->now, &kind);
	if (some && (req.segment.flags & TCP_RST))
		shadow_end_locked(sh, &totals, true);
	bpf_spin_unlock(&sh->lock);
	if (!some)
		return 1;
	if (txreq_clone(w->skb, &req, 0))
		ledger_event(w->ledger, DP_EVENT_clone_failed);
	if (!w->ledger)
		kind = SENT_CONTROL;
	else if (kind == SENT_AGAIN)
		w->ledger->resent++;
	else if (kind == SENT_SYN_AGAIN)
		w->ledger->event[DP_EVENT_syn_retransmit]++;
	else if (kind == SENT_NEW)
		w->ledger->copied++;
	if (totals.ended) /* after the RST: from here on the slot may be another flow's */
		shadow_finish(w->slot, &totals, -1);
	return req.segment.flags & TCP_RST ? 1 : 0;
}

static __always_inline void do_work(struct __sk_buff *skb, struct dp_shadow *sh, __u32 slot)
{
	struct work w = {.skb = skb, .sh = sh, .slot = slot, .gen = sh->gen};
	/* Trimming makes it linear but does not shrink it, and every clone is charged for it. */
	__u32 burst = skb->len > TEMPLATE_LARGE ? TX_BURST_LARGE : TX_BURST;
	bool watch;

	w.ledger = ledger_cell(sh->ep.key.mapping, sh->ep.key.target);
	w.now = bpf_ktime_get_coarse_ns();
	/* One trim for all the segments that are cloned from this template. Where it fails, the
	 * clock that do_command() started must be watched all the same.
	 */
	if (skb->len <= OPT_OFF || !bpf_skb_change_tail(skb, OPT_OFF, 0))
		bpf_loop(burst, work_one, &w, 0);
	bpf_spin_lock(&sh->lock);
	watch = shadow_is_open(sh) && timer_wanted_locked(sh);
	bpf_spin_unlock(&sh->lock);
	if (watch)
		timer_watch(slot);
}

static __always_inline void do_command(struct __sk_buff *skb, struct dp_shadow *sh, __u32 slot,
				       __u32 op)
{
	__u32 lost = 0;
	__u64 now = bpf_ktime_get_coarse_ns();
	struct shadow_totals totals = {};

	bpf_spin_lock(&sh->lock);
	if ((op == DP_CMD_CLOSE || op == DP_CMD_EXPIRE) && shadow_is_open(sh)) {
		/* A clock of its own, should this template be lost. */
		if (!sh->tcp.due_ns)
			shadow_restart_rto_locked(sh, now);
	}
	if ((op == DP_CMD_CLOSE || op == DP_CMD_EXPIRE) && !shadow_fin_placed(sh)) {
		/* What lies beyond a hole can never be sent. */
		lost = shadow_pending_locked(sh);
		shadow_forget_ooo_locked(sh);
		lost -= shadow_pending_locked(sh);
		sh->tcp.flags |= DP_SH_CLIENT_FIN;
		sh->tcp.fin = sh->tcp.end;
	} else if (op == DP_CMD_RESET) {
		shadow_end_locked(sh, &totals, true);
	}
	bpf_spin_unlock(&sh->lock);
	ledger_lose(ledger_cell(sh->ep.key.mapping, sh->ep.key.target),
		    op == DP_CMD_EXPIRE ? DP_LOST_expired : DP_LOST_client_gap, lost);
	if (totals.ended) {
		struct txreq rst = {.kind = TXREQ_SEGMENT, .slot = slot, .gen = totals.gen};

		rst.segment.seq = sh->tcp.nxt;
		rst.segment.flags = TCP_RST | TCP_ACK;
		txreq_clone(skb, &rst, 0);
		shadow_finish(slot, &totals, DP_LOST_detached);
		return;
	}
	do_work(skb, sh, slot);
}

/*
 * A flow that has been silent for so many seconds is forgotten; its key is in the template, behind
 * the Ethernet header. Returns the slot of the shadow that is to close now, or DP_NO_SLOT.
 */
static __noinline __u32 do_expire(struct __sk_buff *skb, __u32 seconds)
{
	struct dp_flow_key key = {};
	struct dp_shadow *sh = NULL;
	struct dp_ledger *l;
	struct dp_flow *flow;
	__u64 seen;
	__u32 slot, gen;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &key, sizeof(key)))
		return DP_NO_SLOT;
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return DP_NO_SLOT;
	slot = flow->slot;
	gen = flow->gen;
	seen = flow->seen_ns;
	if (slot == DP_SLOT_GONE) { /* its deletion failed */
		bpf_map_delete_elem(&flows, &key);
		return DP_NO_SLOT;
	}
	if (slot != DP_NO_SLOT) {
		sh = shadow_at(slot);
		if (!sh)
			return DP_NO_SLOT;
		seen = sh->tcp.seen_ns;
		if (sh->gen != gen) { /* not its shadow any more: left over */
			if (flow_claim(flow, slot, gen, DP_SLOT_GONE))
				bpf_map_delete_elem(&flows, &key);
			return DP_NO_SLOT;
		}
	}
	if (bpf_ktime_get_coarse_ns() - seen < seconds * 1000000000ull ||
	    !flow_claim(flow, slot, gen, DP_SLOT_GONE))
		return DP_NO_SLOT;
	bpf_map_delete_elem(&flows, &key);
	l = ledger_cell(key.mapping, key.target);
	if (l && slot == DP_NO_SLOT)
		l->waiting--;
	ledger_event(l, DP_EVENT_idle);
	return slot;
}

/*
 * By the mapping's row, which follows the routes; its shadow's own after it was removed. Where
 * the target is on link, the kernel need not look for a route for every packet.
 */
static __always_inline long send_out(const struct dp_shadow *sh)
{
	__u32 i = sh->ep.key.mapping, t = sh->ep.key.target;
	struct dp_mapping *m = bpf_map_lookup_elem(&mappings, &i);
	struct bpf_redir_neigh hop = {.nh_family = AF_INET};
	struct dp_target *target;

	if (!m || t >= m->n_targets)
		return bpf_redirect_neigh(sh->ep.oif, NULL, 0, 0);
	target = target_at(m, t);
	if (target->address.w[3] != sh->ep.address.w[3])
		return bpf_redirect_neigh(sh->ep.oif, NULL, 0, 0);
	hop.ipv4_nh = target->nexthop.w[3];
	if (!hop.ipv4_nh)
		return bpf_redirect_neigh(target->oif, NULL, 0, 0);
	return bpf_redirect_neigh(target->oif, &hop, sizeof(hop), 0);
}

static __always_inline void deliver_command(struct __sk_buff *skb, __u32 slot)
{
	struct command command;
	struct dp_shadow *sh;

	txreq_read_command(skb, &command);
	if (command.op == DP_CMD_EXPIRE) {
		slot = do_expire(skb, command.seconds);
		sh = shadow_at(slot);
		if (!sh)
			return;
	} else {
		sh = shadow_at(slot);
		/* Without `oif` its flow is just being entered: flow_bind(). */
		if (!sh || !txreq_is_for(skb, sh) || !sh->ep.oif)
			return;
	}
	do_command(skb, sh, slot, command.op);
}

SEC("tc")
int doppel_deliver(struct __sk_buff *skb)
{
	enum txreq_kind kind = txreq_kind_of(skb);
	__u32 slot = txreq_slot(skb);
	struct dp_shadow *sh;
	struct segment g;
	struct copy copy;
	int err;

	if (kind == TXREQ_NONE) {
		ledger_event(ledger_global(), DP_EVENT_foreign_on_doppel0);
		return TC_ACT_SHOT;
	}
	if (kind == TXREQ_COMMAND) {
		deliver_command(skb, slot);
		return TC_ACT_SHOT;
	}
	sh = shadow_at(slot);
	if (!sh || !txreq_is_for(skb, sh))
		return TC_ACT_SHOT;
	switch (kind) {
	case TXREQ_COPY:
		txreq_read_copy(skb, &copy);
		err = rewrite_copy(skb, sh, &copy);
		break;
	case TXREQ_SEGMENT:
		txreq_read_segment(skb, &g);
		err = segment_build(skb, slot, &g);
		break;
	default:
		do_work(skb, sh, slot);
		return TC_ACT_SHOT;
	}
	if (err) {
		ledger_event(ledger_cell(sh->ep.key.mapping, sh->ep.key.target),
			     DP_EVENT_build_failed);
		return TC_ACT_SHOT;
	}
	/* Marks and priorities are the original's, and would choose its routes and queues. */
	skb->mark = 0;
	skb->priority = 0;
	return send_out(sh);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
