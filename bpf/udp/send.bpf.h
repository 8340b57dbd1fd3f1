/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Copies of a datagram. Nearly always it is the packet with other headers (udp/rewrite). Where that
 * cannot be, its payload goes into datagrams that are built (udp/build): the target is of the other
 * IP version, the path takes less, so that they are fragmented, or GRO has strung packets together.
 */
#ifndef DOPPEL_UDP_SEND_BPF_H
#define DOPPEL_UDP_SEND_BPF_H

#include "flow/limit.bpf.h"
#include "packet/csum_verify.bpf.h"
#include "packet/fraglist.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/path_mtu.bpf.h"
#include "tcp/shadow.bpf.h"
#include "udp/parse.bpf.h"

#define UDP_SEGMENTS 128 /* UDP_MAX_SEGMENTS of the kernel: of one packet of GSO */
#define UDP_PIECES   (65536 / 512)

/* Bytes of IP packet that the path takes: as the route says, or less was found. */
static __always_inline __u32 udp_path_mtu(const struct dp_target *target, __u32 mapping, __u32 t)
{
	struct dp_limit *limit = limit_of(mapping, t);
	__u32 mtu = target->mtu, learnt;

	if (!limit)
		return mtu;
	learnt = limit->path_mtu;
	if (bpf_ktime_get_coarse_ns() / NSEC_PER_SEC < limit->path_mtu >> 32 && learnt < mtu)
		return learnt;
	return mtu;
}

/* A packet of which the datagrams are built. */
struct udp_cut {
	struct __sk_buff *skb;
	struct piece piece;
	__u32 slot;
	__u32 gen;
	__u32 from;    /* the next datagram's payload, from the Ethernet header */
	__u32 left;    /* bytes of payload from there on */
	__u32 segment; /* payload of each datagram but the last */
	__u32 most;    /* payload of a fragment, and of a datagram that is none: a multiple of 8 */
	__u32 room;    /* the same of a datagram as a whole */
	__u32 failed;
	__u32 sent;  /* datagrams */
	bool summed; /* the datagram has a checksum */
};

/* A random one, of a path of which nothing else is known (RFC 4963). */
static __always_inline __u32 udp_fragment_id(void)
{
	return bpf_get_prandom_u32() & 0xffff;
}

static long udp_cut_piece(__u32 i, struct udp_cut *c)
{
	struct txreq req = {.kind = TXREQ_PIECE, .slot = c->slot, .gen = c->gen};
	__u32 left = c->piece.whole - c->piece.at;

	c->piece.len = left > c->most ? c->most : left;
	/* A fragment takes a little less than a datagram that is none. */
	if (!c->piece.at && left <= c->room)
		c->piece.len = left;
	piece_pack(&req.piece, &c->piece);
	if (txreq_clone(c->skb, &req, 0))
		c->failed = 1;
	c->piece.from += c->piece.len;
	c->piece.at += c->piece.len;
	return c->failed || c->piece.at >= c->piece.whole;
}

/* The checksum of the copy (RFC 768); 0: it has none. */
static __always_inline __be16 udp_cut_checksum(struct udp_cut *c, const struct dp_shadow *sh,
					       __u32 len)
{
	struct sum w = {.skb = c->skb, .offset = c->from, .left = len};
	__u64 sum;

	if (!c->summed)
		return 0;
	bpf_loop((64u << 10) / DP_PIECE + 1, sum_piece, &w, 0);
	if (w.left)
		c->failed = 1;
	sum = pseudo_sum_of(IPPROTO_UDP, &sh->ep.shadow_addr, &sh->ep.address, UDP_LEN + len);
	sum += (__u64)sh->ep.shadow_port + sh->ep.target_port + bpf_htons(UDP_LEN + len) + w.sum;
	return (__u16)~csum_fold(sum) ?: 0xffff;
}

static long udp_cut_segment(__u32 i, struct udp_cut *c)
{
	__u32 len = c->left > c->segment ? c->segment : c->left;
	struct dp_shadow *sh = shadow_at(c->slot);

	if (!sh)
		return 1;
	c->piece.from = c->from;
	c->piece.at = 0;
	c->piece.whole = len;
	c->piece.id = udp_fragment_id();
	c->piece.check = udp_cut_checksum(c, sh, len);
	if (c->failed)
		return 1;
	bpf_loop(UDP_PIECES, udp_cut_piece, c, 0);
	if (c->piece.at < len)
		c->failed = 1;
	if (c->failed)
		return 1;
	c->sent++;
	c->from += len;
	c->left -= len;
	return !c->left;
}

/* Datagrams of their own for what the packet carries. How many were sent; negative: not all. */
GLOBAL int udp_cut(struct __sk_buff *skb, const struct pkt *p, __u32 slot, __u32 gen, __u32 mtu)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct udp_cut c = {.skb = skb};
	__u32 headers;

	if (!p || !sh)
		return -1;
	headers = shadow_is_v6(sh) ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	if (mtu < headers + 64)
		return -1;
	c.room = mtu - headers - UDP_LEN;
	/* The first one has the header of UDP, and each in IPv6 one of its own. */
	c.most = (mtu - headers - UDP_LEN - (shadow_is_v6(sh) ? 8 : 0)) & ~7u;
	if (c.room > PIECE_MAX)
		c.room = PIECE_MAX;
	if (c.most > PIECE_MAX)
		c.most = PIECE_MAX;
	c.slot = slot;
	c.gen = gen;
	c.from = p->data_off;
	c.left = p->payload;
	c.segment = skb->gso_size ?: p->payload;
	c.summed = p->check || shadow_is_v6(sh);
	bpf_loop(UDP_SEGMENTS, udp_cut_segment, &c, 0);
	return c.failed || c.left ? -1 : c.sent;
}

/* The packet with other headers. How many datagrams were sent; negative: none. */
static __always_inline int udp_clone(struct __sk_buff *skb, const struct pkt *p,
				     enum pkt_shape shape, __u32 slot, __u32 gen, __u32 id)
{
	struct txreq req = {.kind = TXREQ_DATAGRAM,
			    .slot = slot,
			    .gen = gen,
			    .datagram = {.shape = shape, .id = id}};

	if (txreq_clone(skb, &req, 0))
		return -1;
	return shape == PKT_UDP_LATER ? 0 : skb->gso_segs ?: 1;
}

#define UDP_NO_COPY (-2) /* udp_send(): of this fragment no copy can be made */

/*
 * Sends the datagram, or the fragment, of which `shape` tells. How many datagrams were sent;
 * negative: not all of it.
 */
static __always_inline int udp_send(struct __sk_buff *skb, const struct pkt *p, __u32 shape,
				    __u32 slot, __u32 gen)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_mapping *m;
	__u32 mtu, size;
	bool other;

	if (!p || !sh)
		return -1;
	m = mapping_at(p->mapping);
	if (!m)
		return -1;
	mtu = udp_path_mtu(target_at(m, p->target), p->mapping, p->target);
	other = shadow_is_v6(sh) != !!p->v6;
	if (shape != PKT_UDP) {
		if (other || skb->len - ETH_HLEN > mtu)
			return UDP_NO_COPY;
		return udp_clone(skb, p, shape, slot, gen, p->ack + p->copy);
	}
	/* What lies behind the datagram in its packet (RFC 9868) goes with a clone. */
	size = skb->gso_size ? skb->gso_size + p->data_off : skb->len;
	if (other || size - ETH_HLEN > mtu || skb_is_fraglist(skb))
		return udp_cut(skb, p, slot, gen, mtu);
	return udp_clone(skb, p, shape, slot, gen, 0);
}

#endif
