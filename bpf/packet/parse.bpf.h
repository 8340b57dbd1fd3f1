/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One parse per packet. What is not linear is read with bpf_skb_load_bytes: it reads linear data
 * and frags alike, never pulls, and leaves the packet (and the verifier's packet pointers) alone.
 */
#ifndef DOPPEL_PARSE_BPF_H
#define DOPPEL_PARSE_BPF_H

#include "maps.bpf.h"
#include "packet/addr.bpf.h"
#include "packet/csum.bpf.h"
#include "packet/headers.bpf.h"
#include "tcp/seq.bpf.h"

enum pkt_shape {
	PKT_NONE = 0, /* of another protocol, or cut off: nothing to do with us */
	PKT_TCP,
	/* Holes of a stream: addresses, ports, seq, ack, flags, ttl are valid, and payload is what
	 * the headers say, of which not all need be there.
	 */
	PKT_FRAGMENT,
	PKT_IPOPTIONS, /* or IPv6's extension headers: this host's IP may drop it for one of them */
	PKT_TRUNCATED, /* the IP packet is longer than the frame */
	PKT_MALFORMED, /* ports are valid; lengths lie, or the IP header is damaged */
	PKT_UDP,       /* by udp_parse() alone */
	PKT_UDP_FIRST, /* the same, and more fragments of it follow */
	PKT_UDP_LATER, /* one of these: it has no ports */
};

/* A packet on its way: what was read of it, and what was looked up for it, once. */
struct pkt {
	struct dp_addr saddr;
	struct dp_addr daddr;
	__be16 sport;
	__be16 dport;
	__u32 seq;
	__u32 ack;
	__u32 payload; /* bytes */
	__u32 tsval;
	__u16 window; /* as in the header */
	__be16 check;
	__u16 l4_off;	/* of the TCP header, from the Ethernet header */
	__u16 data_off; /* of the payload */
	__u8 flags;
	__u8 ttl;
	__u8 optlen;	 /* bytes of TCP options */
	__u8 has_ts;	 /* tsval is valid */
	__u8 plain;	 /* options are none, or exactly a timestamp in its common layout */
	__u8 v6 : 1;	 /* the packet is one of IPv6 */
	__u8 udp : 1;	 /* and of UDP, else of TCP */
	__u8 shared : 1; /* capture alone: several shadows get it */

	/* Capture alone: whose packet it is. */
	__u8 target;	   /* index into dp_mapping.target */
	__u8 copy;	   /* dp_flow_key.copy */
	__u16 mapping;	   /* index into `mappings` */
	__u16 port_offset; /* dp_port_val.offset */
};

static __always_inline __u8 pkt_proto(const struct pkt *p)
{
	return p->udp ? IPPROTO_UDP : IPPROTO_TCP;
}

#define PEEK_OTHER   (-1) /* certainly neither TCP nor UDP */
#define PEEK_UNKNOWN (-2) /* only parse() or udp_parse() can tell */
#define PEEK_LATER   (-3) /* a fragment of UDP without ports */
/* Beside a port: it is one of UDP. The bitmap `ports` has them in this order: dp_port_word(). */
#define PEEK_UDP 0x10000

static __always_inline bool peek_is_udp(__s32 port)
{
	return port == PEEK_LATER || port >= PEEK_UDP;
}

static __always_inline __s32 peek_port_v6(struct __sk_buff *skb)
{
	long start = skb->data, end = skb->data_end;
	const __u8 *data = (const __u8 *)start;

	if (start + TCP6_OFF + 4 > end)
		return PEEK_UNKNOWN;
	switch (data[IP_OFF + 6]) {
	case IPPROTO_TCP:
		return data[TCP6_OFF + 2] << 8 | data[TCP6_OFF + 3];
	case IPPROTO_UDP:
		return PEEK_UDP | data[TCP6_OFF + 2] << 8 | data[TCP6_OFF + 3];
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_DSTOPTS:
		return PEEK_UNKNOWN;
	default:
		return PEEK_OTHER;
	}
}

/*
 * The destination port, host order, of a packet with nothing unusual about it. In a fragment of TCP
 * these bytes are payload, so the result may be used to skip a packet, never to accept one.
 */
static __always_inline __s32 peek_port(struct __sk_buff *skb)
{
	long start = skb->data, end = skb->data_end;
	const __u8 *data = (const __u8 *)start;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return skb->protocol == bpf_htons(ETH_P_IPV6) ? peek_port_v6(skb) : PEEK_OTHER;
	if (start + TCP_OFF + 4 > end || data[IP_OFF] != 0x45)
		return PEEK_UNKNOWN;
	if (data[IP_OFF + 9] == IPPROTO_TCP)
		return data[TCP_OFF + 2] << 8 | data[TCP_OFF + 3];
	if (data[IP_OFF + 9] != IPPROTO_UDP)
		return PEEK_OTHER;
	if ((data[IP_OFF + 6] & 0x1f) | data[IP_OFF + 7])
		return PEEK_LATER;
	return PEEK_UDP | data[TCP_OFF + 2] << 8 | data[TCP_OFF + 3];
}

/*
 * `words` of four bytes at `offset`, which is 14 plus a multiple of four: such packet data is
 * aligned to four bytes, as the verifier has it (NET_IP_ALIGN). Read in place where they are
 * linear, as headers nearly always are; a helper's call costs more than all of this. 0, or an
 * error.
 */
static __always_inline long load_words(struct __sk_buff *skb, __u32 offset, __u32 *to, __u32 words)
{
	long start = skb->data, end = skb->data_end;
	const __u32 *from = (const __u32 *)(start + offset);

	if (start + offset + words * 4 <= end) {
#pragma unroll
		for (__u32 i = 0; i < words; i++)
			to[i] = from[i];
		return 0;
	}
	return bpf_skb_load_bytes(skb, offset, to, words * 4);
}

/*
 * VID 0 is a priority tag, and no VLAN (IEEE 802.1Q, 9.6): the stack takes such a frame as
 * untagged. A tag is never in the frame here: __netif_receive_skb_core() moves it to the skb before
 * any hook (skb_vlan_untag()), and the devices of this host send it so.
 */
static __always_inline bool of_a_vlan(struct __sk_buff *skb)
{
	return skb->vlan_present && (skb->vlan_tci & VLAN_VID_MASK);
}

/* What is sent has no tag, whatever the template had. */
static __always_inline void forget_priority_tag(struct __sk_buff *skb)
{
	if (skb->vlan_present)
		bpf_skb_vlan_pop(skb);
}

/* What the two kinds of IP header have in common, of the TCP segment behind it. */
static __always_inline void parse_tcp(struct pkt *p, const struct tcp_header *tcp)
{
	p->sport = tcp->source;
	p->dport = tcp->dest;
	p->flags = tcp->flags;
	p->seq = bpf_ntohl(tcp->seq);
	p->ack = bpf_ntohl(tcp->ack);
	p->window = bpf_ntohs(tcp->window);
	p->has_ts = 0;
}

static __always_inline void parse_options_len(struct pkt *p, const struct tcp_header *tcp,
					      __u32 doff)
{
	p->data_off = p->l4_off + doff;
	p->optlen = doff - 20;
	p->check = tcp->check;
	p->plain = !p->optlen;
}

static __noinline enum pkt_shape parse_v4(struct __sk_buff *skb, struct pkt *p)
{
	struct ipv4_tcp h;
	__u32 total, ihl, doff;

	if (load_words(skb, IP_OFF, (__u32 *)&h, sizeof(h) / 4))
		return PKT_NONE;
	if (h.ip.version != 4 || h.ip.protocol != IPPROTO_TCP)
		return PKT_NONE;
	ihl = h.ip.ihl * 4;
	if (ihl < 20)
		return PKT_NONE;
	if (h.ip.frag_off & bpf_htons(IP_OFFSET))
		return PKT_NONE; /* no ports in here */
	p->saddr = addr_of_v4(h.ip.saddr);
	p->daddr = addr_of_v4(h.ip.daddr);
	p->v6 = 0;
	p->l4_off = IP_OFF + ihl;
	p->ttl = h.ip.ttl;
	total = bpf_ntohs(h.ip.tot_len);
	if (ihl != 20) {
		if (bpf_skb_load_bytes(skb, p->l4_off, &h.tcp, sizeof(h.tcp)))
			return PKT_NONE;
	}
	parse_tcp(p, &h.tcp);
	doff = (h.tcp.doff >> 4) * 4;
	/* A GSO packet of 64 KB or more has tot_len 0 (BIG TCP); its length is the skb's. */
	if (!total && skb->gso_segs)
		total = skb->len - ETH_HLEN;
	p->payload = total > ihl + doff ? total - ihl - doff : 0;
	if (doff < 20 || total < ihl + doff)
		return PKT_MALFORMED;
	/* GRO has looked, and leaves no sum of BIG TCP's length. */
	if (ihl == 20 && !skb->gso_segs && csum_fold(words_sum(&h.ip, 5)) != 0xffff)
		return PKT_MALFORMED;
	if (h.ip.frag_off & bpf_htons(IP_MF))
		return PKT_FRAGMENT;
	if (total > skb->len - ETH_HLEN)
		return PKT_TRUNCATED;
	if (ihl != 20)
		return PKT_IPOPTIONS;
	parse_options_len(p, &h.tcp, doff);
	return PKT_TCP;
}

/* No more of them are walked. RFC 8504, 5.3, lets hosts have such a limit; senders use one or two.
 */
#define EXT_HEADERS 8

/* The way past IPv6's extension headers. */
struct ext_walk {
	__u32 at;    /* from the Ethernet header, bytes */
	__u32 next;  /* the header there */
	__u32 want;  /* IPPROTO_TCP, IPPROTO_UDP */
	__u32 more;  /* the first fragment of several */
	__u32 later; /* one of these, where UDP is wanted: `at` is behind the fragment header */
	__u32 id;    /* of a fragment, where UDP is wanted */
};

/*
 * To the header behind the extension headers (RFC 8200, 4). 0, or -1: it is not in this packet (a
 * later fragment of TCP), not for this host (a routing header that leads on), or too far away.
 */
GLOBAL int ext_headers(struct __sk_buff *skb, struct ext_walk *w)
{
	struct {
		__u8 next;
		__u8 len;
		__u8 type;
		__u8 left;
	} h;

	if (!w)
		return -1;
	for (__u32 i = 0; i < EXT_HEADERS; i++) {
		if (w->next == w->want || w->later)
			break;
		if (bpf_skb_load_bytes(skb, w->at, &h, sizeof(h)))
			return -1;
		switch (w->next) {
		case IPPROTO_ROUTING:
			if (h.left)
				return -1;
			break;
		case IPPROTO_FRAGMENT: /* the last two bytes: an offset << 3, and "more" */
			w->later = h.type || (h.left & 0xf8);
			w->more = h.left & 1;
			if (w->later && w->want == IPPROTO_TCP)
				return -1;
			if (w->want == IPPROTO_UDP &&
			    bpf_skb_load_bytes(skb, w->at + 4, &w->id, sizeof(w->id)))
				return -1;
			h.len = 0;
			break;
		case IPPROTO_HOPOPTS:
		case IPPROTO_DSTOPTS:
			break;
		default:
			return -1;
		}
		w->next = h.next;
		w->at += (h.len + 1) * 8;
	}
	return w->next == w->want ? 0 : -1;
}

static __noinline enum pkt_shape parse_v6(struct __sk_buff *skb, struct pkt *p)
{
	struct ext_walk w = {.at = TCP6_OFF, .want = IPPROTO_TCP};
	struct ipv6_tcp h;
	__u32 len, doff;

	if (load_words(skb, IP_OFF, (__u32 *)&h, sizeof(h) / 4))
		return PKT_NONE;
	if (h.ip.version != 6)
		return PKT_NONE;
	p->saddr = addr_of_v6(&h.ip.saddr);
	p->daddr = addr_of_v6(&h.ip.daddr);
	/* IPv4's addresses are none of IPv6's packets (ipv6_rcv, RFC 4291, 2.5.5.2). */
	if (addr_is_v4(&p->saddr) || addr_is_v4(&p->daddr))
		return PKT_NONE;
	w.next = h.ip.nexthdr;
	if (w.next != IPPROTO_TCP) {
		if (ext_headers(skb, &w) || bpf_skb_load_bytes(skb, w.at, &h.tcp, sizeof(h.tcp)))
			return PKT_NONE;
	}
	p->v6 = 1;
	p->l4_off = w.at;
	p->ttl = h.ip.hop_limit;
	parse_tcp(p, &h.tcp);
	doff = (h.tcp.doff >> 4) * 4;
	len = bpf_ntohs(h.ip.payload_len);
	/* A GSO packet of more than 64 KB has none (BIG TCP, kernel 5.19). */
	if (!len && skb->gso_segs)
		len = skb->len - TCP6_OFF;
	doff += w.at - TCP6_OFF; /* with what is before it, as payload_len is */
	p->payload = len > doff ? len - doff : 0;
	if (h.tcp.doff >> 4 < 5 || len < doff)
		return PKT_MALFORMED;
	if (w.more)
		return PKT_FRAGMENT;
	if (len > skb->len - TCP6_OFF)
		return PKT_TRUNCATED;
	if (w.at != TCP6_OFF)
		return PKT_IPOPTIONS;
	parse_options_len(p, &h.tcp, doff);
	return PKT_TCP;
}

/*
 * The cheap part: which ports is this for? Fills saddr .. dport and, for PKT_TCP, the rest except
 * options and timestamps.
 */
GLOBAL int parse(struct __sk_buff *skb, struct pkt *p)
{
	if (!p || of_a_vlan(skb))
		return PKT_NONE;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return parse_v4(skb, p);
	return skb->protocol == bpf_htons(ETH_P_IPV6) ? parse_v6(skb, p) : PKT_NONE;
}

/* The words of a timestamp in its common place. 0, or an error: there is none. */
static __always_inline long load_timestamp(struct __sk_buff *skb, const struct pkt *p, __be32 *o)
{
	if (!p->v6 && p->l4_off == TCP_OFF)
		return load_words(skb, OPT_OFF, o, 3);
	return p->v6 && p->l4_off == TCP6_OFF ? load_words(skb, OPT6_OFF, o, 3) : -1;
}

/* The common layout of options, without a loop. */
static __always_inline void parse_timestamp(struct __sk_buff *skb, struct pkt *p)
{
	__be32 o[3];

	if (p->optlen < 12 || load_timestamp(skb, p, o))
		return;
	if (o[0] != TS_PREFIX)
		return;
	p->has_ts = 1;
	p->tsval = bpf_ntohl(o[1]);
	p->plain = p->optlen == 12;
}

/* The other half of what parse_timestamp() read; 0 where that read nothing. */
static __always_inline __u32 parse_tsecr(struct __sk_buff *skb, const struct pkt *p)
{
	__be32 echo;

	if (!p->has_ts || bpf_skb_load_bytes(skb, p->l4_off + 28, &echo, 4))
		return 0;
	return bpf_ntohl(echo);
}

struct opt_ctx {
	__u8 buf[64]; /* 40 are used; the rest keeps bounds simple */
	struct tcp_options *o;
	__u32 len;
	__u32 pos;
	__u32 block; /* SACK: next block of the option at `pos`, 0 when none is open */
};

static __always_inline __u32 opt_be32(const __u8 *b)
{
	return ((__u32)b[0] << 24) | (b[1] << 16) | (b[2] << 8) | b[3];
}

static long parse_option(__u32 i, struct opt_ctx *c)
{
	__u32 pos = c->pos, kind, len;
	const __u8 *b;

	if (pos >= c->len)
		return 1;
	asm volatile("%[p] &= 63" : [p] "+r"(pos));
	if (pos > 38)
		return 1;
	b = c->buf + pos;
	kind = b[0];
	if (kind == TCPOPT_EOL)
		return 1;
	if (kind == TCPOPT_NOP) {
		c->pos = pos + 1;
		return 0;
	}
	len = b[1];
	if (len < 2 || pos + len > c->len) {
		c->o->bad = 1;
		return 1;
	}
	c->pos = pos + len;
	if (kind == TCPOPT_MSS && len == 4) {
		c->o->mss = (b[2] << 8) | b[3];
	} else if (kind == TCPOPT_WSCALE && len == 3) {
		c->o->flags |= DP_SH_WSCALE;
		c->o->wscale = b[2] > TCP_MAX_WSCALE ? TCP_MAX_WSCALE : b[2];
	} else if (kind == TCPOPT_SACK_PERM && len == 2) {
		c->o->flags |= DP_SH_SACK;
	} else if (kind == TCPOPT_TIMESTAMP && len == 10 && pos <= 30) {
		c->o->flags |= DP_SH_TS;
		c->o->tsval = opt_be32(b + 2);
		c->o->tsecr = opt_be32(b + 6);
	} else if (kind == TCPOPT_MD5SIG || kind == TCPOPT_AO) {
		c->o->barred = DP_EXCLUDED_tcp_auth;
	} else if (kind == TCPOPT_MPTCP && !c->o->barred) {
		c->o->barred = DP_EXCLUDED_mptcp;
	} else if (kind == TCPOPT_SACK && len >= 10 && pos <= 30) {
		c->o->sack[0].start = opt_be32(b + 2);
		c->o->sack[0].end = opt_be32(b + 6);
		c->o->n_sack = 1;
		if (len >= 18 && pos <= 22) {
			c->o->sack[1].start = opt_be32(b + 10);
			c->o->sack[1].end = opt_be32(b + 14);
			c->o->n_sack = 2;
		}
		if (len >= 26 && pos <= 14) {
			c->o->sack[2].start = opt_be32(b + 18);
			c->o->sack[2].end = opt_be32(b + 22);
			c->o->n_sack = 3;
		}
		if (len >= 34 && pos <= 6) {
			c->o->sack[3].start = opt_be32(b + 26);
			c->o->sack[3].end = opt_be32(b + 30);
			c->o->n_sack = 4;
		}
	}
	return 0;
}

/* Every option, in any order: for SYNs, SACK and rare layouts. */
GLOBAL int parse_options(struct __sk_buff *skb, const struct pkt *p, struct tcp_options *o)
{
	struct opt_ctx c;
	__u32 len;

	if (!p || !o)
		return 0;
	len = p->optlen;
	__builtin_memset(o, 0, sizeof(*o));
	__builtin_memset(&c, 0, sizeof(c));
	if (!len || len > 40)
		return 0;
	asm volatile("%[l] += -1\n\t%[l] &= 63\n\t%[l] += 1" : [l] "+r"(len));
	if (bpf_skb_load_bytes(skb, p->l4_off + sizeof(struct tcp_header), c.buf, len))
		return 0;
	c.o = o;
	c.len = p->optlen;
	bpf_loop(40, parse_option, &c, 0);
	return 0;
}

/* The timestamp wherever it stands: TCP finds it in any layout (tcp_parse_options). */
GLOBAL int parse_odd_timestamp(struct __sk_buff *skb, struct pkt *p)
{
	struct tcp_options opt;

	if (!p)
		return 0;
	parse_options(skb, p, &opt);
	p->has_ts = !!(opt.flags & DP_SH_TS);
	p->tsval = opt.tsval;
	return 0;
}

#endif
