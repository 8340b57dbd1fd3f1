/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses: 16 bytes for either family (struct dp_addr). */
#ifndef DOPPEL_ADDR_BPF_H
#define DOPPEL_ADDR_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "doppel/abi.h"

static __always_inline struct dp_addr addr_of_v4(__be32 a)
{
	struct dp_addr r = {.w = {0, 0, bpf_htonl(0xffff), a}};

	return r;
}

static __always_inline struct dp_addr addr_of_v6(const struct in6_addr *a)
{
	struct dp_addr r;

	__builtin_memcpy(&r, a, sizeof(r));
	return r;
}

/* RFC 4291, 2.5.5.2. */
static __always_inline bool addr_is_v4(const struct dp_addr *a)
{
	return !(a->w[0] | a->w[1] | (a->w[2] ^ bpf_htonl(0xffff)));
}

/* The last word of ::ffff:a.b.c.d. Only for an address that is known to be IPv4. */
static __always_inline __be32 addr_v4(const struct dp_addr *a)
{
	return a->w[3];
}

/* Without a branch for each word: the verifier would walk both ways of each. */
static __always_inline bool addr_eq(const struct dp_addr *a, const struct dp_addr *b)
{
	return !((a->w[3] ^ b->w[3]) | (a->w[2] ^ b->w[2]) | (a->w[1] ^ b->w[1]) |
		 (a->w[0] ^ b->w[0]));
}

static __always_inline bool addr_is_set(const struct dp_addr *a)
{
	return a->w[0] | a->w[1] | a->w[2] | a->w[3];
}

#endif
