/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A device may move to another network namespace, and TCX programs go with it (clsact does not).
 * There nothing is ours: not the clients, and not the device with the number of doppel0.
 */
#ifndef DOPPEL_NETNS_BPF_H
#define DOPPEL_NETNS_BPF_H

#include "maps.bpf.h"

/*
 * bpf_get_netns_cookie() is there for TC since kernel 6.14 only, so the cookie is read where it
 * lies: the context that a TC program gets is the address of the sk_buff.
 */
GLOBAL int netns_is_ours(struct __sk_buff *skb)
{
	struct sk_buff *packet = (struct sk_buff *)skb;
	struct net_device *device = NULL;
	struct net *net = NULL;
	__u64 cookie = 0;

	if (bpf_probe_read_kernel(&device, sizeof(device), &packet->dev) ||
	    bpf_probe_read_kernel(&net, sizeof(net), &device->nd_net.net) ||
	    bpf_probe_read_kernel(&cookie, sizeof(cookie), &net->net_cookie))
		return 1;
	return !cfg.netns || cookie == cfg.netns;
}

#endif
