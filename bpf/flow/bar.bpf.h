/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What cannot be copied, whatever its target: encrypted streams, and parts of streams. */
#ifndef DOPPEL_BAR_BPF_H
#define DOPPEL_BAR_BPF_H

#include "maps.bpf.h"
#include "packet/parse.bpf.h"

#define TLS_HEADER	  5	/* bytes: type, version, length (RFC 8446, 5.1) */
#define TLS_RECORD_MAX	  18432 /* 2^14 + 2048 (RFC 5246, 6.2.3) */
#define TLS_CHANGE_CIPHER 0x14
#define TLS_HANDSHAKE	  0x16
#define TLS_APPLICATION	  0x17
#define TLS_CLIENT_HELLO  1

/* The payload's first bytes, at most 8, the rest of `b` is 0. Returns how many; 0 as well where
 * they cannot be read.
 */
static __always_inline __u32 first_bytes(struct __sk_buff *skb, const struct pkt *p, __u8 *b)
{
	__u32 len = p->payload < 8 ? p->payload : 8;

	__builtin_memset(b, 0, 8);
	if (!len)
		return 0;
	asm volatile("%[n] += -1\n\t%[n] &= 7\n\t%[n] += 1" : [n] "+r"(len));
	return bpf_skb_load_bytes(skb, p->data_off, b, len) ? 0 : len;
}

/*
 * The payload with which a connection begins: is it that of a TLS client? As far as it is there: a
 * ClientHello may come in pieces, and what follows its first byte cannot be waited for. No protocol
 * of requests begins with this one: it is SYN in ASCII, no length that a first message has, and
 * not memcached's 0x80.
 */
GLOBAL int begins_with_tls(struct __sk_buff *skb, const struct pkt *p)
{
	__u8 b[8];
	__u32 n;

	if (!p)
		return false;
	n = first_bytes(skb, p, b);
	return n && b[0] == TLS_HANDSHAKE && (n < 2 || b[1] == 3) && (n < 3 || b[2] <= 4) &&
	       (n < 6 || b[5] == TLS_CLIENT_HELLO);
}

/* In mid-stream, where a record may begin: does the payload start with a whole record's header? */
GLOBAL int tls_record(struct __sk_buff *skb, const struct pkt *p)
{
	__u8 b[8];

	if (!p)
		return false;

	return first_bytes(skb, p, b) >= TLS_HEADER && b[0] >= TLS_CHANGE_CIPHER &&
	       b[0] <= TLS_APPLICATION && b[1] == 3 && b[2] <= 4 &&
	       (b[3] << 8 | b[4]) <= TLS_RECORD_MAX;
}

/* MD5 or AO: a connection that is mirrored is not signed. */
GLOBAL int segment_is_signed(struct __sk_buff *skb, const struct pkt *p)
{
	struct tcp_options opt;

	if (!p)
		return false;
	parse_options(skb, p, &opt);
	return opt.barred == DP_EXCLUDED_tcp_auth;
}

/*
 * May nobody join with this segment, because of what the connection is? enum dp_excluded, or 0. TLS
 * by its record, MPTCP by its options (RFC 8684, 3.3: nearly every segment with data has one).
 */
GLOBAL __u32 barred_in_stream(struct __sk_buff *skb, const struct pkt *p)
{
	struct tcp_options opt;

	if (!p)
		return 0;
	if (p->flags & TCP_URG)
		return DP_EXCLUDED_urgent;
	if (tls_record(skb, p))
		return DP_EXCLUDED_tls;
	if (p->plain)
		return 0;
	parse_options(skb, p, &opt);
	return opt.barred;
}

#endif
