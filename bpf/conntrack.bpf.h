/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What conntrack knows of a connection that goes through destination NAT on this host: a published
 * container port, a NodePort, REDIRECT. TC ingress comes before netfilter, so no socket is found
 * for what the client writes into its packets. The server's socket may be in a network namespace
 * that nothing here can ask, but netfilter keeps the numbers of both sides.
 */
#ifndef DOPPEL_CONNTRACK_BPF_H
#define DOPPEL_CONNTRACK_BPF_H

#include "maps.bpf.h"
#include "source.bpf.h"

/*
 * Where no socket has a connection of the packet `t`, whose size is that of its IP version: is its
 * destination translated here? True: `t` is the packet behind the translation, and *s what
 * conntrack can tell, SOURCE_NONE as well. Takes the entry's lock nowhere: like a socket's, its
 * numbers are a moment's.
 */
extern int conntrack_ask(struct __sk_buff *skb, struct bpf_sock_tuple *t, __u32 size,
			 struct source *s);

#endif
