/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which connections a target gets, where it gets a sample: by a hash of the connection's two ends,
 * whichever of them speaks. Targets and hosts with the same seed choose the same connections, and a
 * smaller sample is a part of a larger one. Who does not know the seed cannot choose his ports so
 * that he is in it, or out: it is the initial value of the hash (Jenkins' lookup3, as the kernel's
 * jhash2 has it).
 */
#ifndef DOPPEL_SAMPLE_BPF_H
#define DOPPEL_SAMPLE_BPF_H

#include "maps.bpf.h"

static __always_inline __u32 sample_rol(__u32 x, __u32 by)
{
	return x << by | x >> (32 - by);
}

/* Of so many words: the addresses, and the ports in one. */
#define SAMPLE_WORDS 9

/* __jhash_mix() */
static __always_inline void sample_mix(__u32 *a, __u32 *b, __u32 *c)
{
	*a -= *c, *a ^= sample_rol(*c, 4), *c += *b;
	*b -= *a, *b ^= sample_rol(*a, 6), *a += *c;
	*c -= *b, *c ^= sample_rol(*b, 8), *b += *a;
	*a -= *c, *a ^= sample_rol(*c, 16), *c += *b;
	*b -= *a, *b ^= sample_rol(*a, 19), *a += *c;
	*c -= *b, *c ^= sample_rol(*b, 4), *b += *a;
}

/* __jhash_final() */
static __always_inline __u32 sample_final(__u32 a, __u32 b, __u32 c)
{
	c ^= b, c -= sample_rol(b, 14);
	a ^= c, a -= sample_rol(c, 11);
	b ^= a, b -= sample_rol(a, 25);
	c ^= b, c -= sample_rol(b, 16);
	a ^= c, a -= sample_rol(c, 4);
	b ^= a, b -= sample_rol(a, 14);
	c ^= b, c -= sample_rol(b, 24);
	return c;
}

static __always_inline __u32 sample_hash(const struct dp_flow_key *key, __u32 seed)
{
	__u32 a = 0xdeadbeef + (SAMPLE_WORDS << 2) + seed, b = a, c = a;

	a += key->client.w[0], b += key->client.w[1], c += key->client.w[2];
	sample_mix(&a, &b, &c);
	a += key->client.w[3], b += key->server.w[0], c += key->server.w[1];
	sample_mix(&a, &b, &c);
	a += key->server.w[2], b += key->server.w[3];
	c += (__u32)key->client_port << 16 | key->server_port;
	return sample_final(a, b, c);
}

/* Does the target get this connection? Asked where a flow is not known yet, and never again. */
GLOBAL int sample_takes(const struct dp_flow_key *key)
{
	const struct dp_target *target;
	struct dp_mapping *m;

	if (!key)
		return 1;
	m = mapping_at(key->mapping);
	if (!m)
		return 1;
	target = target_at(m, key->target);
	return !target->sample || sample_hash(key, m->seed ?: cfg.cookie) < target->sample;
}

#endif
