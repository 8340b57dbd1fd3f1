/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A segment of our own making: any packet is the template, its content is replaced. SYN, ACK,
 * FIN, RST, and payload from the store. The only place where headers are written from nothing.
 */
#ifndef DOPPEL_SEGMENT_BPF_H
#define DOPPEL_SEGMENT_BPF_H

#include "packet/rewrite.bpf.h"

#define SEG_MAX_PAYLOAD 1460u /* what one build carries at most, bytes */

struct segment_headers {
	struct ipv4_tcp h;
	__u8 opt[20];
};

static __always_inline struct dp_chunk *stored(const struct dp_store_key *key)
{
	__u32 *known = bpf_map_lookup_elem(&store, key), index;

	if (!known)
		return NULL;
	index = *known;
	return bpf_map_lookup_elem(&chunks, &index);
}

/* Stream bytes [seq, seq + len) into the per-CPU scratch. Bottom halves are off here. */
static __always_inline int read_store(struct scratch_space *s, __u32 slot, __u32 gen, __u32 seq,
				      __u32 len)
{
	struct dp_store_key key = {.slot = slot, .gen = gen, .chunk = seq >> DP_CHUNK_SHIFT};
	__u32 pos = seq & (DP_CHUNK - 1), first = DP_CHUNK - pos, rest;
	struct dp_chunk *c;

	if (first > len)
		first = len;
	rest = len - first;
	c = stored(&key);
	if (!c)
		return -1;
	asm volatile("%[n] += -1\n\t%[n] &= 2047\n\t%[n] += 1" : [n] "+r"(first));
	if (bpf_probe_read_kernel(s->data, first, c->data + pos))
		return -1;
	if (!rest)
		return 0;
	key.chunk = (key.chunk + 1) & (0xffffffffu >> DP_CHUNK_SHIFT);
	c = stored(&key);
	if (!c)
		return -1;
	asm volatile("%[n] += -1\n\t%[n] &= 2047\n\t%[n] += 1\n\t%[p] &= 2047"
		     : [n] "+r"(rest), [p] "+r"(first));
	return bpf_probe_read_kernel(s->data + first, rest, c->data) ? -1 : 0;
}

/*
 * Was it freed meanwhile, and may hold another flow's bytes? What frees a chunk ends the shadow, or
 * moves `store_start`, before it does.
 */
static __always_inline bool chunk_gone(const struct dp_shadow *sh, __u32 gen, __u32 seq)
{
	__u32 store_start = sh->tcp.store_start;

	return sh->gen != gen || !shadow_is_open(sh) ||
	       (seq_before(seq, store_start) &&
		store_start >> DP_CHUNK_SHIFT != seq >> DP_CHUNK_SHIFT);
}

/* Sum of scratch[0, len). bpf_csum_diff takes at most 512 bytes before kernel 6.13. */
static __always_inline __u64 scratch_sum(struct scratch_space *s, __u32 len)
{
	__u32 pos = len;
	__u64 sum = 0;

	asm volatile("%[p] &= 2047" : [p] "+r"(pos));
	s->data[pos] = 0;
	s->data[pos + 1] = 0;
	s->data[pos + 2] = 0;
#pragma unroll
	for (__u32 i = 0; i < 3; i++) {
		__u32 n;

		if (len <= i * 512)
			break;
		n = len - i * 512;
		if (n >= 512) {
			sum += (__u32)bpf_csum_diff(0, 0, (__be32 *)(s->data + i * 512), 512, 0);
		} else {
			n = (n + 3) & ~3;
			asm volatile("%[n] &= 0x3fc" : [n] "+r"(n));
			if (n > 512)
				n = 512;
			sum += (__u32)bpf_csum_diff(0, 0, (__be32 *)(s->data + i * 512), n, 0);
		}
	}
	return sum;
}

/*
 * CHECKSUM_PARTIAL cannot be asked for, but tried: a change that is not of the pseudo-header
 * leaves the field alone exactly then (inet_proto_csum_replace4, net/core/utils.c).
 */
static __always_inline int is_partial(struct __sk_buff *skb, bool *partial)
{
	__u16 a, b;

	if (bpf_skb_load_bytes(skb, CHECK_OFF, &a, 2) ||
	    bpf_l4_csum_replace(skb, CHECK_OFF, 0, 1, 2) ||
	    bpf_skb_load_bytes(skb, CHECK_OFF, &b, 2))
		return -1;
	*partial = a == b;
	return 0;
}

static __always_inline void put_ts(__u8 *o, __u32 val, __u32 ecr)
{
	o[0] = TCPOPT_TIMESTAMP;
	o[1] = 10;
	o[2] = val >> 24;
	o[3] = val >> 16;
	o[4] = val >> 8;
	o[5] = val;
	o[6] = ecr >> 24;
	o[7] = ecr >> 16;
	o[8] = ecr >> 8;
	o[9] = ecr;
}

/* The template becomes the segment. The caller redirects it. */
GLOBAL int segment_build(struct __sk_buff *skb, __u32 slot, const struct segment *g)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct segment_headers n = {};
	__u32 optlen = 0, len, zero = 0, flags, gen;
	__u8 mac[12], swapped[12];
	struct scratch_space *s;
	__u64 sum, pseudo;
	bool partial;

	s = bpf_map_lookup_elem(&scratch, &zero);
	if (!s || !sh || !g || g->len > SEG_MAX_PAYLOAD)
		return -1;
	len = g->len;
	flags = sh->tcp.flags;
	gen = sh->gen;
	if (len && (read_store(s, slot, gen, g->seq, len) || chunk_gone(sh, gen, g->seq)))
		return -1;
	if (g->flags & TCP_SYN) {
		/* Any order will do; each only if the client offered it (design, 4.1). */
		n.opt[0] = TCPOPT_MSS;
		n.opt[1] = 4;
		n.opt[2] = sh->tcp.mss_offer >> 8;
		n.opt[3] = sh->tcp.mss_offer;
		n.opt[4] = flags & DP_SH_SACK ? TCPOPT_SACK_PERM : TCPOPT_NOP;
		n.opt[5] = flags & DP_SH_SACK ? 2 : TCPOPT_NOP;
		if (flags & DP_SH_TS)
			put_ts(n.opt + 6, sh->tcp.ts_val, 0);
		else
			__builtin_memset(n.opt + 6, TCPOPT_NOP, 10);
		n.opt[16] = TCPOPT_NOP;
		n.opt[17] = flags & DP_SH_WSCALE ? TCPOPT_WSCALE : TCPOPT_NOP;
		n.opt[18] = flags & DP_SH_WSCALE ? 3 : TCPOPT_NOP;
		n.opt[19] = flags & DP_SH_WSCALE ? sh->tcp.rcv_wscale : TCPOPT_NOP;
		optlen = 20;
	} else if ((flags & DP_SH_TS) && !(g->flags & TCP_RST)) {
		/* A RST needs none (RFC 7323, 3.2), and with one that is lower than what a target
		 * in TIME-WAIT remembers it would be refused (tcp_paws_reject).
		 */
		n.opt[0] = TCPOPT_NOP;
		n.opt[1] = TCPOPT_NOP;
		put_ts(n.opt + 2, sh->tcp.ts_val, sh->tcp.ts_recent);
		optlen = TS_LEN;
	}

	if (bpf_skb_change_tail(skb, OPT_OFF + optlen + len, 0) || is_partial(skb, &partial))
		return -1;

	n.h.ip.version = 4;
	n.h.ip.ihl = 5;
	n.h.ip.tot_len = bpf_htons(HEADERS_LEN + optlen + len);
	n.h.ip.frag_off = bpf_htons(IP_DF); /* and therefore id 0 (RFC 6864) */
	n.h.ip.ttl = sh->tcp.ttl;
	n.h.ip.protocol = IPPROTO_TCP;
	n.h.ip.saddr = sh->ep.shadow_addr.w[3];
	n.h.ip.daddr = sh->ep.address.w[3];
	n.h.ip.check = ip_checksum(&n.h.ip);
	n.h.tcp.source = sh->ep.shadow_port;
	n.h.tcp.dest = sh->ep.target_port;
	n.h.tcp.seq = bpf_htonl(g->seq);
	n.h.tcp.ack = g->flags & TCP_ACK ? bpf_htonl(sh->tcp.rcv_nxt) : 0;
	n.h.tcp.doff = (5 + (optlen >> 2)) << 4;
	n.h.tcp.flags = g->flags;
	n.h.tcp.window = bpf_htons(RCV_WINDOW);

	pseudo = pseudo_sum(n.h.ip.saddr, n.h.ip.daddr, 20 + optlen + len);
	if (partial) {
		n.h.tcp.check = csum_fold(pseudo);
	} else {
		/* opt[] is zero beyond optlen, so all of it may be summed. */
		sum = pseudo + (__u32)bpf_csum_diff(0, 0, (__be32 *)&n.h.tcp, 40, 0);
		if (len)
			sum += scratch_sum(s, len);
		n.h.tcp.check = ~csum_fold(sum);
	}
	/* RECOMPUTE: a CHECKSUM_COMPLETE template keeps a true skb->csum. */
	if (optlen == 20) {
		if (bpf_skb_store_bytes(skb, IP_OFF, &n, 60, BPF_F_RECOMPUTE_CSUM))
			return -1;
	} else if (optlen == TS_LEN) {
		if (bpf_skb_store_bytes(skb, IP_OFF, &n, 52, BPF_F_RECOMPUTE_CSUM))
			return -1;
	} else if (bpf_skb_store_bytes(skb, IP_OFF, &n, 40, BPF_F_RECOMPUTE_CSUM)) {
		return -1;
	}
	if (len) {
		asm volatile("%[n] += -1\n\t%[n] &= 2047\n\t%[n] += 1" : [n] "+r"(len));
		if (bpf_skb_store_bytes(skb, OPT_OFF + optlen, s->data, len, BPF_F_RECOMPUTE_CSUM))
			return -1;
	}
	if (!g->turn)
		return 0;
	if (bpf_skb_load_bytes(skb, 0, mac, 12))
		return -1;
	__builtin_memcpy(swapped, mac + 6, 6);
	__builtin_memcpy(swapped + 6, mac, 6);
	return bpf_skb_store_bytes(skb, 0, swapped, 12, BPF_F_RECOMPUTE_CSUM) ? -1 : 0;
}

#endif
