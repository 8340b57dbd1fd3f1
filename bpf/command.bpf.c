// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Command: how a process makes the data plane send, through BPF_PROG_RUN. It only hands an order
 * to doppel0: there bottom halves are off (kernel 6.1 runs BPF_PROG_RUN with them on), so that
 * per-CPU counters and scratch have one user at a time.
 *
 * ctx_in: cb[0] enum dp_command, cb[1] slot, cb[2] generation (dp_shadow.gen); for
 * DP_CMD_EXPIRE see there.
 * data_in: any Ethernet + IPv4 + TCP frame of 60 bytes. Returns 0, or 1 when nothing was done.
 */
#include "packet/txreq.bpf.h"

SEC("tc")
int doppel_command(struct __sk_buff *skb)
{
	struct order o = {.kind = DP_ORDER_COMMAND,
			  .a = skb->cb[0],
			  .slot = skb->cb[1],
			  .gen = skb->cb[2],
			  .b = skb->cb[2]};

	return order_clone(skb, &o, 0) ? 1 : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
