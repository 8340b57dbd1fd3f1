// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The store_start: what it costs to hand a clone of each packet to another device, and nothing
 * else. No mirror that sends copies from TC can be cheaper.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define FLOOR_IFINDEX 4000 /* given to floor0 when it is made: no look-up that doppel has not */

SEC("tc")
int bench_floor(struct __sk_buff *skb)
{
	bpf_clone_redirect(skb, FLOOR_IFINDEX, 0);
	return TC_ACT_UNSPEC;
}

/* What measuring adds to every figure. */
SEC("tc")
int bench_empty(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

/* At floor0's peer. Its time counts nowhere: it runs later, from the backlog. */
SEC("tc")
int bench_drop(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
