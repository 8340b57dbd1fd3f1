/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Transmit requests: how capture, return and command tell deliver what a packet on doppel0 is.
 * They ride in skb->cb, which survives clone and redirect between TC hooks of one namespace and
 * which no program behind us may rely on; the original's cb is put back all the same.
 */
#ifndef DOPPEL_TXREQ_BPF_H
#define DOPPEL_TXREQ_BPF_H

#include "maps.bpf.h"

#define SLOT_MASK      ((1u << DP_SLOT_BITS) - 1)
#define TXREQ_GEN_MASK ((1u << (32 - DP_SLOT_BITS)) - 1)
#define TEMPLATE_LARGE 2048 /* bytes: a template that is not a single Ethernet frame */

/* A template is a packet whose content is not used: deliver cuts and overwrites it. */
enum txreq_kind {
	TXREQ_NONE = 0, /* a frame that is not ours */
	TXREQ_COPY,	/* this clone of a captured packet: rewrite and send it */
	TXREQ_WORK,	/* template: send what the shadow owes, TX_BURST segments at most */
	TXREQ_SEGMENT,	/* template: it becomes this one segment */
	TXREQ_COMMAND,	/* template: carry out a command of a process */
	TXREQ_START,	/* template: it becomes the clock's hand */
	TXREQ_TICK,	/* the clock's hand comes by */
	TXREQ_LEAVE,	/* this segment is ready: send it */
	TXREQ_DATAGRAM, /* this clone of a captured datagram, or fragment of one: as TXREQ_COPY */
	TXREQ_PIECE,	/* the same, of which a part becomes a datagram or a fragment of one */
	TXREQ_SUMMED,	/* the same, come back with the checksum made */
};

/* The words of skb->cb (20 bytes, qdisc_skb_cb.data); from the third on their use depends on the
 * kind. */
enum cb_slot {
	CB_KIND = 0,   /* cfg.cookie + enum txreq_kind: a frame without it is not ours */
	CB_SHADOW = 1, /* slot | gen << DP_SLOT_BITS, the low bits of gen */

	CB_COPY_ACK = 2,
	CB_COPY_TSECR = 3,
	CB_COPY_TSVAL = 4,

	CB_SEGMENT_SEQ = 2,
	CB_SEGMENT_LEN = 3,
	CB_SEGMENT_FLAGS = 4,

	CB_COMMAND_OP = 2,
	CB_COMMAND_SECONDS = 3,

	CB_DATAGRAM_SHAPE = 2,
	CB_DATAGRAM_ID = 3,

	CB_PIECE_PART = 2,
	CB_PIECE_PLACE = 3,
	CB_PIECE_WHOLE = 4,
};

/* Host order, all of them. */
struct copy {
	__u32 ack;
	__u32 tsecr;
	__u32 tsval;
};

struct segment {
	__u32 seq;
	__u32 len;  /* payload bytes, from the store */
	__u8 flags; /* of the TCP header */
	__u8 turn;  /* swap the Ethernet addresses, to send the template back; not part of a request
		     */
};

struct command {
	__u32 op;      /* enum dp_command */
	__u32 seconds; /* DP_CMD_EXPIRE, DP_CMD_SOURCE_GONE */
};

struct datagram {
	__u32 shape; /* enum pkt_shape: PKT_UDP, PKT_UDP_FIRST, PKT_UDP_LATER */
	__u32 id;    /* of the copy's fragments, 16 bits */
};

#define PIECE_MAX 1480 /* bytes of payload that one carries at most, a multiple of 8 */

/* As it is in skb->cb: it is no larger than others. */
struct packed_piece {
	__u32 part;  /* from | len << 20 */
	__u32 place; /* at | id << 16 */
	__u32 whole; /* whole | check << 16 */
};

struct piece {
	__u32 from;   /* where its payload lies in the captured packet, from the Ethernet header */
	__u16 len;    /* bytes of payload, at most PIECE_MAX */
	__u16 at;     /* where they are in the new datagram, bytes behind its UDP header */
	__u16 whole;  /* payload of the new datagram; more than len: it is fragmented */
	__u16 id;     /* of its fragments */
	__be16 check; /* of it as a whole */
};

static __always_inline void piece_pack(struct packed_piece *to, const struct piece *p)
{
	to->part = p->from | (__u32)p->len << 20;
	to->place = p->at | (__u32)p->id << 16;
	to->whole = p->whole | (__u32)p->check << 16;
}

struct txreq {
	__u32 kind; /* enum txreq_kind */
	__u32 slot;
	__u32 gen;
	union {
		struct copy copy;
		struct segment segment;
		struct command command;
		struct datagram datagram;
		struct packed_piece piece;
	};
};

static __always_inline void txreq_write(struct __sk_buff *skb, const struct txreq *r)
{
	skb->cb[CB_KIND] = cfg.cookie + r->kind;
	skb->cb[CB_SHADOW] = (r->slot & SLOT_MASK) | (r->gen << DP_SLOT_BITS);
	switch (r->kind) {
	case TXREQ_COPY:
		skb->cb[CB_COPY_ACK] = r->copy.ack;
		skb->cb[CB_COPY_TSECR] = r->copy.tsecr;
		skb->cb[CB_COPY_TSVAL] = r->copy.tsval;
		break;
	case TXREQ_SEGMENT:
		skb->cb[CB_SEGMENT_SEQ] = r->segment.seq;
		skb->cb[CB_SEGMENT_LEN] = r->segment.len;
		skb->cb[CB_SEGMENT_FLAGS] = r->segment.flags;
		break;
	case TXREQ_COMMAND:
		skb->cb[CB_COMMAND_OP] = r->command.op;
		skb->cb[CB_COMMAND_SECONDS] = r->command.seconds;
		break;
	case TXREQ_DATAGRAM:
		skb->cb[CB_DATAGRAM_SHAPE] = r->datagram.shape;
		skb->cb[CB_DATAGRAM_ID] = r->datagram.id;
		break;
	case TXREQ_PIECE:
		skb->cb[CB_PIECE_PART] = r->piece.part;
		skb->cb[CB_PIECE_PLACE] = r->piece.place;
		skb->cb[CB_PIECE_WHOLE] = r->piece.whole;
		break;
	}
}

static __always_inline enum txreq_kind txreq_kind_of(struct __sk_buff *skb)
{
	__u32 kind = skb->cb[CB_KIND] - cfg.cookie;

	return kind >= TXREQ_COPY && kind <= TXREQ_SUMMED ? kind : TXREQ_NONE;
}

static __always_inline __u32 txreq_slot(struct __sk_buff *skb)
{
	return skb->cb[CB_SHADOW] & SLOT_MASK;
}

/* The low bits of it: TXREQ_GEN_MASK. */
static __always_inline __u32 txreq_gen(struct __sk_buff *skb)
{
	return skb->cb[CB_SHADOW] >> DP_SLOT_BITS;
}

static __always_inline bool txreq_is_for(struct __sk_buff *skb, const struct dp_shadow *sh)
{
	return txreq_gen(skb) == (sh->gen & TXREQ_GEN_MASK);
}

static __always_inline void txreq_read_copy(struct __sk_buff *skb, struct copy *c)
{
	c->ack = skb->cb[CB_COPY_ACK];
	c->tsecr = skb->cb[CB_COPY_TSECR];
	c->tsval = skb->cb[CB_COPY_TSVAL];
}

static __always_inline void txreq_read_segment(struct __sk_buff *skb, struct segment *g)
{
	g->seq = skb->cb[CB_SEGMENT_SEQ];
	g->len = skb->cb[CB_SEGMENT_LEN] & 0xffff;
	g->flags = skb->cb[CB_SEGMENT_FLAGS];
	g->turn = 0;
}

static __always_inline void txreq_read_command(struct __sk_buff *skb, struct command *c)
{
	c->op = skb->cb[CB_COMMAND_OP];
	c->seconds = skb->cb[CB_COMMAND_SECONDS];
}

static __always_inline void txreq_read_datagram(struct __sk_buff *skb, struct datagram *d)
{
	d->shape = skb->cb[CB_DATAGRAM_SHAPE];
	d->id = skb->cb[CB_DATAGRAM_ID] & 0xffff;
}

static __always_inline void txreq_read_piece(struct __sk_buff *skb, struct piece *p)
{
	p->from = skb->cb[CB_PIECE_PART] & 0xfffff;
	p->len = skb->cb[CB_PIECE_PART] >> 20;
	p->at = skb->cb[CB_PIECE_PLACE];
	p->id = skb->cb[CB_PIECE_PLACE] >> 16;
	p->whole = skb->cb[CB_PIECE_WHOLE];
	p->check = skb->cb[CB_PIECE_WHOLE] >> 16;
}

/*
 * A clone goes to doppel0; the packet itself is left as it was. Not 0: it did not get there, or
 * deliver failed. A template of work or of a command is always dropped at its end, and TCX has no
 * verdict for that but TC_ACT_SHOT, which a sender sees as 1 (NET_XMIT_DROP).
 */
static __always_inline long txreq_clone(struct __sk_buff *skb, const struct txreq *r, __u32 flags)
{
	__u32 cb0 = skb->cb[0], cb1 = skb->cb[1], cb2 = skb->cb[2], cb3 = skb->cb[3],
	      cb4 = skb->cb[4];
	long err;

	txreq_write(skb, r);
	err = bpf_clone_redirect(skb, cfg.link, flags);
	skb->cb[0] = cb0;
	skb->cb[1] = cb1;
	skb->cb[2] = cb2;
	skb->cb[3] = cb3;
	skb->cb[4] = cb4;
	if (err > 0 && (r->kind == TXREQ_WORK || r->kind == TXREQ_COMMAND))
		return 0;
	return err;
}

#endif
