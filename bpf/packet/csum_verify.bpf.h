/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Checksums of TCP and UDP in packets that came in, where neither the device nor GRO vouches. */
#ifndef DOPPEL_CSUM_VERIFY_BPF_H
#define DOPPEL_CSUM_VERIFY_BPF_H

#include "maps.bpf.h"
#include "packet/csum.bpf.h"
#include "packet/parse.bpf.h"

struct sum {
	struct __sk_buff *skb;
	__u32 offset;
	__u32 left; /* bytes */
	__u32 sum;
};

static long sum_piece(__u32 i, struct sum *w)
{
	__u32 zero = 0, n = w->left > DP_PIECE ? DP_PIECE : w->left;
	struct scratch_space *s = bpf_map_lookup_elem(&scratch, &zero);

	if (!n || !s)
		return 1;
	__builtin_memset(s->data, 0, DP_PIECE);
	asm volatile("%[n] += -1\n\t%[n] &= 255\n\t%[n] += 1" : [n] "+r"(n));
	if (bpf_skb_load_bytes(w->skb, w->offset, s->data, n))
		return 1;
	w->sum = bpf_csum_diff(0, 0, (__be32 *)s->data, DP_PIECE, w->sum);
	w->offset += n;
	w->left -= n;
	return 0;
}

/*
 * TC ingress comes before TCP or UDP verifies: a segment that the wire damaged would get a good
 * checksum from us when it is sent from the store, and a damaged answer of the target would pass
 * for proof of delivery. Three kinds of skb need no sum: those the device vouches for
 * (CHECKSUM_UNNECESSARY), those whose sum is still to be made (CHECKSUM_PARTIAL: this host, a
 * container or a virtual machine is the sender), and GRO packets, which are always one of these. In
 * any other the bare pseudo-header's sum is wrong: the kernel's mark tells, and not the bytes.
 */
GLOBAL int checksum_ok(struct __sk_buff *skb, const struct pkt *p)
{
	struct sum w = {.skb = skb};
	enum summed summed;
	__u64 pseudo;
	__u32 len;

	if (!p)
		return false;
	if (skb->gso_size)
		return true;
	summed = summed_by(skb);
	if (summed == SUMMED_UNNECESSARY)
		return true;
	w.offset = p->l4_off;
	len = p->data_off - p->l4_off + p->payload;
	pseudo = pseudo_sum_of(pkt_proto(p), &p->saddr, &p->daddr, len);
	if (summed == SUMMED_PARTIAL && p->check == csum_fold(pseudo))
		return true;
	w.left = len;
	bpf_loop((64u << 10) / DP_PIECE + 1, sum_piece, &w, 0);
	return !w.left && csum_fold(pseudo + w.sum) == 0xffff;
}

#endif
