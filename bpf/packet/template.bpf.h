/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A template is any packet, of which nothing is used but that it is one: it is cut to the length
 * that is wanted, and made one of the other IP version where the segment is of that.
 */
#ifndef DOPPEL_TEMPLATE_BPF_H
#define DOPPEL_TEMPLATE_BPF_H

#include "maps.bpf.h"
#include "packet/headers.bpf.h"

/*
 * 0, or an error. Cut first: what is behind the headers would be in the checksum that a device is
 * still to make, and no packet may be cut to less than the field of that sum
 * (bpf_skb_change_tail). The headers of TCP stay where they are, and so does that field.
 */
GLOBAL int template_turn(struct __sk_buff *skb, __u32 v6)
{
	__u32 headers = v6 ? OPT_OFF : OPT6_OFF;

	if (bpf_skb_change_tail(skb, headers, 0))
		return -1;
	return bpf_skb_change_proto(skb, bpf_htons(v6 ? ETH_P_IPV6 : ETH_P_IP), 0);
}

/* Where the options of TCP begin in a packet of that version, from the Ethernet header. */
static __always_inline __u32 template_options(bool v6)
{
	return v6 ? OPT6_OFF : OPT_OFF;
}

/* The template has headers of that version, and `len` bytes behind them: 0, or an error. */
static __always_inline long template_fit(struct __sk_buff *skb, bool v6, __u32 len)
{
	if (skb->protocol != bpf_htons(v6 ? ETH_P_IPV6 : ETH_P_IP) && template_turn(skb, v6))
		return -1;
	return bpf_skb_change_tail(skb, template_options(v6) + len, 0);
}

#endif
