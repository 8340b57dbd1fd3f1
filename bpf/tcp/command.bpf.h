/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Commands of a process to a shadow: send what is due, close, reset. */
#ifndef DOPPEL_SHADOW_COMMAND_BPF_H
#define DOPPEL_SHADOW_COMMAND_BPF_H

#include "flow/expire.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/output.bpf.h"
#include "tcp/path_mtu.bpf.h"
#include "udp/end.bpf.h"

/* As if the client had sent its FIN. */
static __always_inline void shadow_close_locked(struct dp_shadow *sh, __u64 now)
{
	/* A clock of its own, should this template be lost. */
	if (shadow_is_open(sh) && !sh->tcp.due_ns)
		shadow_restart_rto_locked(sh, now);
	if (shadow_fin_placed(sh))
		return;
	sh->tcp.flags |= DP_SH_CLIENT_FIN;
	sh->tcp.fin = sh->tcp.end;
}

/* `op`: enum dp_command. skb: template for what is sent. */
static __always_inline void shadow_command(struct __sk_buff *skb, struct dp_shadow *sh, __u32 slot,
					   __u32 op)
{
	struct txreq rst = {.kind = TXREQ_SEGMENT, .slot = slot};
	__u64 now = bpf_ktime_get_coarse_ns();
	struct dp_mapping *m = mapping_at(sh->ep.key.mapping);
	__u32 mtu = m ? target_at(m, sh->ep.key.target)->mtu : 0;
	struct shadow_totals totals = {};

	if (sh->tcp.flags & DP_SH_UDP) {
		if (op == DP_CMD_CLOSE || op == DP_CMD_EXPIRE || op == DP_CMD_RESET)
			udp_end(slot, sh->gen);
		return;
	}
	bpf_spin_lock(&sh->lock);
	if (op == DP_CMD_CLOSE || op == DP_CMD_EXPIRE)
		shadow_close_locked(sh, now);
	else if (op == DP_CMD_RESET)
		shadow_end_locked(sh, &totals, true);
	else if (op == DP_CMD_MTU && mtu && sh->tcp.state != DP_SYN_SENT)
		path_mtu_obey_locked(sh, mtu);
	bpf_spin_unlock(&sh->lock);
	if (!totals.ended) {
		tcp_output(skb, sh, slot);
		return;
	}
	rst.gen = totals.gen;
	rst.segment.seq = sh->tcp.nxt;
	rst.segment.flags = TCP_RST | TCP_ACK;
	txreq_clone(skb, &rst, 0);
	shadow_finish(slot, &totals, DP_LOST_detached);
}

/* A request of kind TXREQ_COMMAND. */
static __always_inline void command_run(struct __sk_buff *skb, __u32 slot)
{
	struct command command;
	struct dp_shadow *sh;

	txreq_read_command(skb, &command);
	if (command.op == DP_CMD_EXPIRE || command.op == DP_CMD_SOURCE_GONE) {
		slot = flow_expire(skb, command.seconds, command.op);
		sh = shadow_at(slot);
		if (!sh)
			return;
		if (command.op == DP_CMD_SOURCE_GONE) /* no time-out ends it: what waits is sent */
			command.op = DP_CMD_CLOSE;
	} else {
		sh = shadow_at(slot);
		/* Without `oif` its flow is just being entered: flow_bind(). */
		if (!sh || !txreq_is_for(skb, sh) || !sh->ep.oif)
			return;
	}
	shadow_command(skb, sh, slot, command.op);
}

#endif
