/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections that the user leaves out, since a sample lacks them. */
#ifndef DOPPEL_UNWANTED_BPF_H
#define DOPPEL_UNWANTED_BPF_H

#include "flow/flow.bpf.h"
#include "flow/sample.bpf.h"
#include "maps.bpf.h"

/*
 * Why the target does not get this connection: is_left_out(); not_joined: it gets it. Asked where a
 * flow is not known yet, and remembered by its row from then on.
 */
GLOBAL int left_out(const struct dp_flow_key *key)
{
	if (!key)
		return DP_EXCLUDED_not_joined;
	return sample_takes(key) ? DP_EXCLUDED_not_joined : DP_EXCLUDED_sample;
}

#endif
