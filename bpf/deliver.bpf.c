// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Deliver: TC hook of doppel0. What arrives with a request is a clone of ours and may be
 * rewritten freely; it leaves by route and neighbour (bpf_redirect_neigh, 5.10), so its source
 * MAC is always the sending device's. Anything else on doppel0 is dropped here.
 */
#include "packet/build.bpf.h"
#include "packet/parse.bpf.h"
#include "packet/rewrite.bpf.h"
#include "packet/send.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/clock.bpf.h"
#include "tcp/command.bpf.h"
#include "tcp/output.bpf.h"

SEC("tc")
int doppel_deliver(struct __sk_buff *skb)
{
	enum txreq_kind kind = txreq_kind_of(skb);
	__u32 slot = txreq_slot(skb);
	struct segment segment;
	struct dp_shadow *sh;
	struct copy copy;
	int err;

	if (kind == TXREQ_NONE) {
		ledger_event(ledger_global(), DP_EVENT_foreign_on_doppel0);
		return TC_ACT_SHOT;
	}
	forget_priority_tag(skb);
	if (kind == TXREQ_COMMAND) {
		command_run(skb, slot);
		clock_look(skb);
		return TC_ACT_SHOT;
	}
	if (kind == TXREQ_START)
		return clock_begin(skb);
	if (kind == TXREQ_TICK)
		return clock_tick(skb);
	if (kind >= TXREQ_DATAGRAM) {
		bpf_tail_call(skb, &udp_programs, DP_UDP_DELIVER);
		return TC_ACT_SHOT;
	}
	sh = shadow_at(slot);
	if (!sh || !txreq_is_for(skb, sh))
		return TC_ACT_SHOT;
	if (kind == TXREQ_WORK) {
		tcp_output(skb, sh, slot);
		clock_look(skb);
		return TC_ACT_SHOT;
	}
	if (kind == TXREQ_LEAVE)
		return send_to_target(skb, sh, slot);
	if (kind == TXREQ_COPY) {
		txreq_read_copy(skb, &copy);
		err = rewrite_copy(skb, sh, slot, &copy);
	} else {
		txreq_read_segment(skb, &segment);
		err = segment_build(skb, slot, &segment);
	}
	if (err) {
		ledger_event(shadow_ledger(sh), DP_EVENT_build_failed);
		return TC_ACT_SHOT;
	}
	forget_marks(skb);
	return send_to_target(skb, sh, slot);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
