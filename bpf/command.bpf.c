// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Command: how a process makes the data plane act, through BPF_PROG_RUN. It only hands a request
 * to doppel0: there bottom halves are off (kernel 6.1 runs BPF_PROG_RUN with them on), so that
 * per-CPU counters and scratch have one user at a time.
 *
 * ctx_in: cb[] as enum dp_command_cb says. data_in: any Ethernet + IPv4 + TCP frame of 60 bytes.
 * Returns 0, or 1 when nothing was done.
 */
#include "packet/txreq.bpf.h"

SEC("tc")
int doppel_command(struct __sk_buff *skb)
{
	struct txreq req = {
		.kind = TXREQ_COMMAND,
		.slot = skb->cb[DP_CMD_CB_SLOT],
		.gen = skb->cb[DP_CMD_CB_GEN],
		.command = {.op = skb->cb[DP_CMD_CB_OP], .seconds = skb->cb[DP_CMD_CB_SECONDS]}};

	return txreq_clone(skb, &req, 0) ? 1 : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
