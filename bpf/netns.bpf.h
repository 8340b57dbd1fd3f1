/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A device may move to another network namespace, and TCX programs go with it (clsact does not).
 * There nothing is ours: not the clients, and not the device with the number of doppel0.
 */
#ifndef DOPPEL_NETNS_BPF_H
#define DOPPEL_NETNS_BPF_H

#include "maps.bpf.h"

/*
 * The cookie is read where it lies: the context that a TC program gets is the address of the
 * sk_buff. bpf_get_netns_cookie() takes it from the packet's socket, which there is none of on
 * ingress (6.14). Once this CPU knows where our namespace lies, its address is enough: when another
 * one can have it, ours is gone, and so is the mirror.
 */
GLOBAL int netns_is_ours(struct __sk_buff *skb)
{
	struct sk_buff *packet = (struct sk_buff *)skb;
	struct net_device *device = NULL;
	struct scratch_space *s;
	struct net *net = NULL;
	__u64 cookie = 0;
	__u32 zero = 0;

	if (bpf_probe_read_kernel(&device, sizeof(device), &packet->dev) ||
	    bpf_probe_read_kernel(&net, sizeof(net), &device->nd_net.net))
		return 1;
	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s)
		return 1;
	if (s->ours == (__u64)net)
		return 1;
	if (bpf_probe_read_kernel(&cookie, sizeof(cookie), &net->net_cookie))
		return 1;
	if (cfg.netns && cookie != cfg.netns)
		return 0;
	s->ours = (__u64)net;
	return 1;
}

#endif
