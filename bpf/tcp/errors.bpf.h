/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Does an answer of the target's begin as one of an error? Told by its first bytes, whatever the
 * mapping speaks: the errors of memcached (doc/protocol.txt, doc/protocol-binary.txt), Redis (RESP)
 * and HTTP (RFC 9112, 4) begin differently. What begins so by chance, in the middle of a value, is
 * rare: `status` wants many.
 */
#ifndef DOPPEL_ERRORS_BPF_H
#define DOPPEL_ERRORS_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "packet/parse.bpf.h"

#define LEAST_ERROR 6 /* bytes: "-ERR", and the line's end */

/* Text of four bytes, as it is read from a packet. */
#define FOUR(a, b, c, d) bpf_htonl((__u32)(a) << 24 | (b) << 16 | (c) << 8 | (d))

static __always_inline bool is_upper(__u8 c)
{
	return c >= 'A' && c <= 'Z';
}

/* "HTTP/1.1 503" */
#define HTTP_STATUS_AT 9

/*
 * Of the binary protocol of memcached: those below are outcomes, such as that there is no such key,
 * and not errors of who asked, or of the server.
 */
#define BINARY_RESPONSE	   0x81
#define BINARY_STATUS_AT   6
#define BINARY_LEAST_ERROR 0x20

static __always_inline bool answer_is_error(struct __sk_buff *skb, const struct pkt *p)
{
	__u32 start;
	__u8 more[2], *c = (__u8 *)&start;

	if (p->payload < LEAST_ERROR || bpf_skb_load_bytes(skb, p->data_off, &start, 4))
		return false;
	switch (start) {
	case FOUR('E', 'R', 'R', 'O'):
	case FOUR('C', 'L', 'I', 'E'):
	case FOUR('S', 'E', 'R', 'V'):
		return true;
	case FOUR('H', 'T', 'T', 'P'):
		return !bpf_skb_load_bytes(skb, p->data_off + HTTP_STATUS_AT, more, 1) &&
		       more[0] == '5';
	}
	if (c[0] == BINARY_RESPONSE)
		return !bpf_skb_load_bytes(skb, p->data_off + BINARY_STATUS_AT, more, 2) &&
		       (more[0] << 8 | more[1]) >= BINARY_LEAST_ERROR;
	return c[0] == '-' && is_upper(c[1]) && is_upper(c[2]) && is_upper(c[3]);
}

#endif
