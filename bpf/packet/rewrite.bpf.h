/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A copy: a clone of a captured segment whose headers are rewritten in place. The payload is
 * not touched and stays shared with the original; a GRO packet stays one.
 */
#ifndef DOPPEL_REWRITE_BPF_H
#define DOPPEL_REWRITE_BPF_H

#include "packet/csum.bpf.h"
#include "packet/parse.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/shadow.bpf.h"

struct copy_headers {
	struct ipv4_tcp h;
	__be32 ts[3];
};

/*
 * Capture has checked: IPv4 without options, TCP options none or a plain timestamp, flags ACK
 * and PSH only; so the offsets are constants here. All changes go through the checksum helpers:
 * they know whether the sum in the packet is complete or still to be made by the device
 * (CHECKSUM_PARTIAL).
 */
static __always_inline int rewrite_copy(struct __sk_buff *skb, const struct dp_shadow *sh,
					const struct copy *c)
{
	struct copy_headers old = {}, new;
	__wsum addr, tcp;
	bool ts;

	if (load_words(skb, IP_OFF, (__u32 *)&old.h, sizeof(old.h) / 4))
		return -1;
	ts = old.h.tcp.doff >> 4 == 8;
	if (ts && load_words(skb, OPT_OFF, old.ts, 3))
		return -1;
	new = old;
	new.h.ip.saddr = addr_v4(&sh->ep.shadow_addr);
	new.h.ip.daddr = addr_v4(&sh->ep.address);
	/* The client's class and ECN (RFC 2474, 3168) are of its path; copies have no claim there.
	 */
	new.h.ip.tos = 0;
	new.h.ip.ttl = sh->tcp.ttl;
	new.h.ip.check = ip_checksum(&new.h.ip);
	new.h.tcp.source = sh->ep.shadow_port;
	new.h.tcp.dest = sh->ep.target_port;
	new.h.tcp.ack = bpf_htonl(c->ack);
	new.h.tcp.window = bpf_htons(RCV_WINDOW);
	if (ts) {
		if (sh->tcp.flags & DP_SH_TS) {
			new.ts[1] = bpf_htonl(c->tsval);
			new.ts[2] = bpf_htonl(c->tsecr);
		} else {
			new.ts[0] = bpf_htonl(0x01010101);
			new.ts[1] = bpf_htonl(0x01010101);
			new.ts[2] = bpf_htonl(0x01010101);
		}
	}
	addr = words_diff(&old.h.ip.saddr, &new.h.ip.saddr, 2);
	if (ts) {
		tcp = words_diff(&old.h.tcp, &new.h.tcp, 8);
		if (bpf_skb_store_bytes(skb, IP_OFF, &new, sizeof(new), 0))
			return -1;
	} else {
		tcp = words_diff(&old.h.tcp, &new.h.tcp, 5);
		if (bpf_skb_store_bytes(skb, IP_OFF, &new.h, sizeof(new.h), 0))
			return -1;
	}
	if (bpf_l4_csum_replace(skb, CHECK_OFF, 0, addr, BPF_F_PSEUDO_HDR) ||
	    bpf_l4_csum_replace(skb, CHECK_OFF, 0, tcp, 0))
		return -1;
	return 0;
}

#endif
