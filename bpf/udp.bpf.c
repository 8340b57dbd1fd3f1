// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * UDP: what the programs on the hooks call for it. They are programs of their own, so that the way
 * of TCP carries nothing of them, and each has a stack of its own.
 */
#include "packet/send.bpf.h"
#include "udp/build.bpf.h"
#include "udp/capture.bpf.h"
#include "udp/return.bpf.h"
#include "udp/rewrite.bpf.h"

SEC("tc")
int doppel_udp_in(struct __sk_buff *skb)
{
	return udp_capture(skb, DP_DIR_INGRESS);
}

SEC("tc")
int doppel_udp_out(struct __sk_buff *skb)
{
	return udp_capture(skb, DP_DIR_EGRESS);
}

SEC("tc")
int doppel_udp_ret(struct __sk_buff *skb)
{
	return udp_return(skb);
}

/* A clone on doppel0, of kind TXREQ_DATAGRAM, TXREQ_PIECE or TXREQ_SUMMED. */
SEC("tc")
int doppel_udp_dlv(struct __sk_buff *skb)
{
	enum txreq_kind kind = txreq_kind_of(skb);
	__u32 slot = txreq_slot(skb);
	struct dp_shadow *sh = shadow_at(slot);
	struct datagram datagram;
	struct piece piece;
	int err;

	if (!sh || !txreq_is_for(skb, sh) || !(sh->tcp.flags & DP_SH_UDP))
		return TC_ACT_SHOT;
	if (kind == TXREQ_DATAGRAM) {
		txreq_read_datagram(skb, &datagram);
		err = udp_rewrite(skb, slot, &datagram);
	} else {
		txreq_read_piece(skb, &piece);
		err = udp_build(skb, slot, &piece);
		if (err == PIECE_UNSUMMED && kind == TXREQ_PIECE)
			return udp_sum_first(skb);
	}
	if (err) {
		ledger_event(shadow_ledger(sh), DP_EVENT_build_failed);
		return TC_ACT_SHOT;
	}
	forget_marks(skb);
	return send_to_target(skb, sh, slot);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
