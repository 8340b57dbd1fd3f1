// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * A target without a host: answers SYNs, acknowledges data at once and may answer it, closes when
 * it is asked to. It turns each packet around where it arrives, so that a mirror can be
 * measured without what a target costs.
 *
 * It believes everything: what comes is taken as the next bytes, in order. Bytes that were lost on
 * the way would count as delivered. And it never waits, retransmits or shuts its window.
 */
#include "packet/csum.bpf.h"
#include "packet/parse.bpf.h"

#define SINK_ISN	1000000
#define SINK_MSS	1460
#define SINK_WSCALE	14
#define SINK_MAX_ANSWER 1400

struct sink_config {
	__be32 address; /* whose packets it takes */
	__u32 answer;	/* bytes of payload for each packet with payload; 0: an ACK alone */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sink_config);
} sink_config SEC(".maps");

struct conversation {
	__u32 next; /* our next sequence number */
	__u32 closed;
};

/* By the other end's port: one host alone uses a sink. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct conversation);
} sink_talks SEC(".maps");

enum sink_count {
	SINK_SYN = 0,
	SINK_DATA,
	SINK_BYTES,
	SINK_ACK,
	SINK_FIN,
	SINK_RST,
	SINK_FAILED,
	SINK_COUNTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SINK_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} sink_counts SEC(".maps");

struct reply {
	struct ipv4_tcp h;
	__u8 opt[20];
};

static __always_inline void count(__u32 what, __u64 by)
{
	__u64 *n = bpf_map_lookup_elem(&sink_counts, &what);

	if (n)
		__sync_fetch_and_add(n, by);
}

static __always_inline void put_be32(__u8 *to, __u32 value)
{
	to[0] = value >> 24;
	to[1] = value >> 16;
	to[2] = value >> 8;
	to[3] = value;
}

static __always_inline void put_timestamp(__u8 *to, __u32 echo)
{
	to[0] = TCPOPT_TIMESTAMP;
	to[1] = 10;
	put_be32(to + 2, bpf_ktime_get_ns() / 1000000);
	put_be32(to + 6, echo);
}

/* Options of the SYN-ACK: what was offered (RFC 7323, 2.2 and 3.2; RFC 2018, 2). */
static __always_inline void syn_options(struct reply *r, const struct tcp_options *offer)
{
	r->opt[0] = TCPOPT_MSS;
	r->opt[1] = 4;
	r->opt[2] = SINK_MSS >> 8;
	r->opt[3] = SINK_MSS & 0xff;
	r->opt[4] = offer->flags & DP_SH_SACK ? TCPOPT_SACK_PERM : TCPOPT_NOP;
	r->opt[5] = offer->flags & DP_SH_SACK ? 2 : TCPOPT_NOP;
	if (offer->flags & DP_SH_TS)
		put_timestamp(r->opt + 6, offer->tsval);
	else
		__builtin_memset(r->opt + 6, TCPOPT_NOP, 10);
	r->opt[16] = TCPOPT_NOP;
	if (offer->flags & DP_SH_WSCALE) {
		r->opt[17] = TCPOPT_WSCALE;
		r->opt[18] = 3;
		r->opt[19] = SINK_WSCALE;
	} else {
		__builtin_memset(r->opt + 17, TCPOPT_NOP, 3);
	}
}

/*
 * The packet becomes the reply. Cut off first and lengthened then, its payload is zeros, which
 * add nothing to a checksum.
 */
static __always_inline int turn_around(struct __sk_buff *skb, struct reply *r, __u32 optlen,
				       __u32 answer, bool partial)
{
	__u32 len = OPT_OFF + optlen;
	__u8 mac[12], swapped[12];
	struct dp_addr from, to;
	__u64 pseudo, sum;
	__be32 address = r->h.ip.saddr;
	__be16 port = r->h.tcp.source;

	if (bpf_skb_change_tail(skb, len, 0) ||
	    (answer && bpf_skb_change_tail(skb, len + answer, 0)))
		return -1;
	if (bpf_skb_load_bytes(skb, 0, mac, 12))
		return -1;
	__builtin_memcpy(swapped, mac + 6, 6);
	__builtin_memcpy(swapped + 6, mac, 6);
	if (bpf_skb_store_bytes(skb, 0, swapped, 12, BPF_F_RECOMPUTE_CSUM))
		return -1;
	r->h.ip.tot_len = bpf_htons(sizeof(struct ipv4_tcp) + optlen + answer);
	r->h.ip.saddr = r->h.ip.daddr;
	r->h.ip.daddr = address;
	r->h.ip.check = 0;
	r->h.ip.check = ~csum_fold((__u32)bpf_csum_diff(0, 0, (__be32 *)&r->h.ip, 20, 0));
	r->h.tcp.source = r->h.tcp.dest;
	r->h.tcp.dest = port;
	r->h.tcp.doff = (5 + optlen / 4) << 4;
	r->h.tcp.window = 0xffff;
	r->h.tcp.urg = 0;
	r->h.tcp.check = 0;
	from = addr_of_v4(r->h.ip.saddr);
	to = addr_of_v4(r->h.ip.daddr);
	pseudo = pseudo_sum(&from, &to, 20 + optlen + answer);
	sum = pseudo + (__u32)bpf_csum_diff(0, 0, (__be32 *)&r->h.tcp, 40, 0);
	r->h.tcp.check = partial ? csum_fold(pseudo) : ~csum_fold(sum);
	/* A full sum over opt[] is right for less of it, too: the rest is zero. */
	if (optlen == 20)
		return bpf_skb_store_bytes(skb, IP_OFF, r, 60, BPF_F_RECOMPUTE_CSUM);
	if (optlen == 12)
		return bpf_skb_store_bytes(skb, IP_OFF, r, 52, BPF_F_RECOMPUTE_CSUM);
	return bpf_skb_store_bytes(skb, IP_OFF, r, 40, BPF_F_RECOMPUTE_CSUM);
}

SEC("tc")
int bench_sink(struct __sk_buff *skb)
{
	__u32 zero = 0, port, answer = 0, optlen = 0;
	struct tcp_options offer = {};
	struct sink_config *config;
	struct conversation *talk;
	struct reply r = {};
	struct pkt p = {};
	bool partial;

	config = bpf_map_lookup_elem(&sink_config, &zero);
	if (!config || parse(skb, &p) != PKT_TCP || addr_v4(&p.daddr) != config->address)
		return TC_ACT_UNSPEC;
	port = bpf_ntohs(p.sport);
	talk = bpf_map_lookup_elem(&sink_talks, &port);
	if (!talk)
		return TC_ACT_SHOT;
	if (p.flags & TCP_RST) {
		count(SINK_RST, 1);
		return TC_ACT_SHOT;
	}
	if (!p.payload && !(p.flags & (TCP_SYN | TCP_FIN))) {
		count(SINK_ACK, 1);
		return TC_ACT_SHOT;
	}
	if (bpf_skb_load_bytes(skb, IP_OFF, &r.h, sizeof(r.h)))
		return TC_ACT_SHOT;
	partial = p.check ==
		  csum_fold(pseudo_sum(&p.saddr, &p.daddr, p.data_off - p.l4_off + p.payload));
	if (p.flags & TCP_SYN) {
		count(SINK_SYN, 1);
		parse_options(skb, &p, &offer);
		syn_options(&r, &offer);
		optlen = 20;
		talk->next = SINK_ISN + 1;
		talk->closed = 0;
		r.h.tcp.seq = bpf_htonl(SINK_ISN);
		r.h.tcp.ack = bpf_htonl(p.seq + 1);
		r.h.tcp.flags = TCP_SYN | TCP_ACK;
	} else {
		parse_timestamp(skb, &p);
		if (p.has_ts) {
			r.opt[0] = TCPOPT_NOP;
			r.opt[1] = TCPOPT_NOP;
			put_timestamp(r.opt + 2, p.tsval);
			optlen = 12;
		}
		r.h.tcp.seq = bpf_htonl(talk->next - talk->closed);
		r.h.tcp.ack = bpf_htonl(p.seq + p.payload + !!(p.flags & TCP_FIN));
		r.h.tcp.flags = TCP_ACK;
		if (p.payload) {
			count(SINK_DATA, 1);
			count(SINK_BYTES, p.payload);
			answer = config->answer;
			if (answer > SINK_MAX_ANSWER || talk->closed)
				answer = 0;
			talk->next += answer;
		}
		if (p.flags & TCP_FIN) {
			count(SINK_FIN, 1);
			r.h.tcp.flags |= TCP_FIN;
			talk->next += !talk->closed;
			talk->closed = 1;
		}
	}
	if (turn_around(skb, &r, optlen, answer, partial)) {
		count(SINK_FAILED, 1);
		return TC_ACT_SHOT;
	}
	return bpf_redirect(skb->ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
