/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Internet checksums (RFC 1071), of headers, pseudo-headers and payload that we write. */
#ifndef DOPPEL_CSUM_BPF_H
#define DOPPEL_CSUM_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "types.bpf.h"
#include "packet/addr.bpf.h"

/* Ones' complement sum to 16 bits. */
static __always_inline __u16 csum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Sum of so many words, not folded. For headers: a helper's call costs more than a few additions.
 */
static __always_inline __u64 words_sum(const void *from, __u32 words)
{
	const __be32 *w = from;
	__u64 sum = 0;

#pragma unroll
	for (__u32 i = 0; i < words; i++)
		sum += w[i];
	return sum;
}

/*
 * Sum of the pseudo-header of TCP (RFC 9293, 3.1) or UDP (RFC 768), not folded; len: its header and
 * the payload. The same for IPv6 (RFC 8200, 8.1): what stands before an IPv4 address here is
 * 0xffff, which is 0 to ones' complement arithmetic.
 */
static __always_inline __u64 pseudo_sum_of(__u32 proto, const struct dp_addr *saddr,
					   const struct dp_addr *daddr, __u32 len)
{
	return words_sum(saddr, 4) + words_sum(daddr, 4) + bpf_htonl(proto) + bpf_htonl(len);
}

static __always_inline __u64 pseudo_sum(const struct dp_addr *saddr, const struct dp_addr *daddr,
					__u32 len)
{
	return pseudo_sum_of(IPPROTO_TCP, saddr, daddr, len);
}

/* What the sum of so many words changes by, as bpf_l4_csum_replace() takes it. */
static __always_inline __wsum words_diff(const void *from, const void *to, __u32 words)
{
	__u64 sum = words_sum(to, words);
	const __be32 *w = from;

#pragma unroll
	for (__u32 i = 0; i < words; i++)
		sum += (__u32)~w[i];
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

static __always_inline __be16 ip_checksum(struct iphdr *ip)
{
	ip->check = 0;
	return ~csum_fold(words_sum(ip, sizeof(*ip) / 4));
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

/* skb->ip_summed (include/linux/skbuff.h): who has made, or is to make, the sum of TCP or UDP. */
enum summed {
	SUMMED_NONE = 0,    /* CHECKSUM_NONE: what the packet has is not verified yet */
	SUMMED_UNNECESSARY, /* it is: by the device, or by GRO */
	SUMMED_COMPLETE,    /* skb->csum is the sum of all bytes */
	SUMMED_PARTIAL,	    /* the field has the pseudo-header's sum: the device makes the rest */
};

/*
 * The context of a TC program lacks the field, but is the address of the sk_buff. A kfunc that
 * reads it (bpf_cast_to_kern_ctx) is there from 6.2 on only.
 */
static __always_inline enum summed summed_by(struct __sk_buff *skb)
{
	return BPF_CORE_READ_BITFIELD_PROBED((struct sk_buff *)skb, ip_summed);
}

#endif
