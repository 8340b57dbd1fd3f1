/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What GRO made of several frames by stringing them together (`rx-gro-list on`, TCP since kernel
 * 6.10, where no socket of this host has the connection). On its way out each frame gets the first
 * one's addresses and ports, and keeps its own ACK, window and timestamps (skb_segment_list,
 * net/core/skbuff.c): no copy can be made in place.
 */
#ifndef DOPPEL_FRAGLIST_BPF_H
#define DOPPEL_FRAGLIST_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define SKB_GSO_FRAGLIST (1u << 18) /* include/linux/skbuff.h, 5.6 */

/*
 * No field of __sk_buff tells. What cannot be read is taken for one: a copy from the store is right
 * for every packet.
 */
static __always_inline bool skb_is_fraglist(struct __sk_buff *skb)
{
	const struct sk_buff *kernel = (const struct sk_buff *)skb;
	const struct skb_shared_info *shared;
	unsigned char *head;
	__u32 end, type;

	if (!skb->gso_size)
		return false;
	if (bpf_probe_read_kernel(&head, sizeof(head), &kernel->head) ||
	    bpf_probe_read_kernel(&end, sizeof(end), &kernel->end))
		return true;
	shared = (const struct skb_shared_info *)(head + end);
	if (bpf_probe_read_kernel(&type, sizeof(type), &shared->gso_type))
		return true;
	return type & SKB_GSO_FRAGLIST;
}

#endif
