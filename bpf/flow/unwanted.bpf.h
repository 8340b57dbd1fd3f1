/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections that the user leaves out: by the client's address, by a sample, or all of them. */
#ifndef DOPPEL_UNWANTED_BPF_H
#define DOPPEL_UNWANTED_BPF_H

#include "flow/flow.bpf.h"
#include "flow/sample.bpf.h"
#include "maps.bpf.h"
#include "packet/addr.bpf.h"

/* A look-up takes a step for each bit at which the list's prefixes part. */
static __always_inline bool client_is_unwanted(__u32 list, const struct dp_addr *client)
{
	struct dp_prefix_key key = {.length = dp_prefix_length(128)};
	__u32 *listed;

	key.list = list | (addr_is_v4(client) ? DP_PREFIX_V4 : 0);
	key.address = *client;
	listed = bpf_map_lookup_elem(&prefixes, &key);
	return listed && *listed == DP_PREFIX_EXCLUDE;
}

/*
 * Why the target does not get this connection: is_left_out(); not_joined: it gets it. Asked where a
 * flow is not known yet, and remembered by its row from then on.
 */
GLOBAL int left_out(const struct dp_flow_key *key)
{
	struct dp_mapping *m;
	__u32 list;

	if (!key)
		return DP_EXCLUDED_not_joined;
	m = mapping_at(key->mapping);
	if (!m)
		return DP_EXCLUDED_not_joined;
	/* Once: a reload may write another number meanwhile. */
	list = *(const volatile __u16 *)&m->clients;
	if (list && client_is_unwanted(list, &key->client))
		return DP_EXCLUDED_client_list;
	if (target_at(m, key->target)->sample == DP_SAMPLE_NONE)
		return DP_EXCLUDED_dry_run;
	return sample_takes(key) ? DP_EXCLUDED_not_joined : DP_EXCLUDED_sample;
}

/*
 * The packet is of a flow whose client was not wanted when it began. list: of its mapping; decides
 * where no flow is known, as behind a FIN.
 */
GLOBAL int flow_is_unwanted(const struct pkt *p, __u32 list)
{
	struct dp_flow_key key = {};
	struct dp_flow *flow;

	if (!p)
		return false;
	flow_key(&key, p);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow)
		return client_is_unwanted(list, &key.client);
	return flow->excluded == DP_EXCLUDED_client_list;
}

#endif
