/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Orders: how capture, return and command tell deliver what a packet on doppel0 is. They ride in
 * skb->cb, which survives clone and redirect between TC hooks of one namespace and which no
 * program behind us may rely on; the original's cb is put back all the same.
 *
 *   cb[0]  cfg.cookie + enum dp_order_kind: a frame without it is not ours
 *   cb[1]  slot | (gen << 16), the low 16 bits of gen
 *   cb[2]  COPY: ACK number          SEGMENT: sequence number     COMMAND: enum dp_command
 *   cb[3]  COPY: TSecr               SEGMENT: length | flags << 16
 *   cb[4]  COPY: TSval
 */
#ifndef DOPPEL_ORDER_BPF_H
#define DOPPEL_ORDER_BPF_H

#include "maps.bpf.h"

#define TEMPLATE_LARGE 2048 /* bytes: a template that is not a single Ethernet frame */

enum dp_order_kind {
	DP_ORDER_COPY = 1, /* rewrite this clone of a captured packet and send it */
	DP_ORDER_WORK,	   /* template: send what the shadow owes, at most `arg` segments */
	DP_ORDER_SEGMENT,  /* template: become the one segment that seq and arg describe */
	DP_ORDER_COMMAND,  /* template: a command; arg = enum dp_command */
};

struct order {
	__u32 kind;
	__u32 slot;
	__u32 gen;
	__u32 a;
	__u32 b;
	__u32 c;
};

static __always_inline void order_write(struct __sk_buff *skb, const struct order *o)
{
	skb->cb[0] = cfg.cookie + o->kind;
	skb->cb[1] = (o->slot & 0xffff) | (o->gen << 16);
	skb->cb[2] = o->a;
	skb->cb[3] = o->b;
	skb->cb[4] = o->c;
}

/* 0 when it is none of ours. */
static __always_inline __u32 order_kind(struct __sk_buff *skb)
{
	__u32 kind = skb->cb[0] - cfg.cookie;

	return kind >= DP_ORDER_COPY && kind <= DP_ORDER_COMMAND ? kind : 0;
}

static __always_inline bool order_is_for(struct __sk_buff *skb, const struct dp_shadow *sh)
{
	return skb->cb[1] >> 16 == (sh->gen & 0xffff);
}

/*
 * A clone goes to doppel0; the packet itself is left as it was. Not 0: it did not get there, or
 * deliver failed. A template of work is always dropped at its end, and TCX has no verdict for
 * that but TC_ACT_SHOT, which a sender sees as 1 (NET_XMIT_DROP).
 */
static __always_inline long order_clone(struct __sk_buff *skb, const struct order *o, __u32 flags)
{
	__u32 cb0 = skb->cb[0], cb1 = skb->cb[1], cb2 = skb->cb[2], cb3 = skb->cb[3],
	      cb4 = skb->cb[4];
	long err;

	order_write(skb, o);
	err = bpf_clone_redirect(skb, cfg.link, flags);
	skb->cb[0] = cb0;
	skb->cb[1] = cb1;
	skb->cb[2] = cb2;
	skb->cb[3] = cb3;
	skb->cb[4] = cb4;
	if (err > 0 && (o->kind == DP_ORDER_WORK || o->kind == DP_ORDER_COMMAND))
		return 0;
	return err;
}

#endif
