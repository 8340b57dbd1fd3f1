/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Copies from their client's address: a connection of the client's own to the target may have the
 * same two ends, where its port is one of the shadow ports.
 */
#ifndef DOPPEL_KEPT_BPF_H
#define DOPPEL_KEPT_BPF_H

#include "ledger.bpf.h"
#include "tcp/shadow.bpf.h"

/* So long after its client's last packet a target still says something to a shadow that is over:
 * Linux' TIME-WAIT (TCP_TIMEWAIT_LEN).
 */
#define KEPT_NS (60ull * 1000000000)

/*
 * The target has begun another connection with the ends of this shadow, which is over: it has no
 * name any more.
 */
static __always_inline void shadow_unname(struct dp_shadow *sh)
{
	bpf_spin_lock(&sh->lock);
	if (sh->tcp.state == DP_TIME_WAIT)
		sh->ep.oif = 0;
	bpf_spin_unlock(&sh->lock);
}

/*
 * Is what the target sends to the slot's last shadow the client's own? While the shadow waits for
 * an answer to its SYN an acknowledgement without one is: there was a connection before, and its
 * end at the target challenges the SYN (RFC 5961, 4). After the shadow what begins a connection is,
 * with all that follows, and what comes late. flags: of TCP; 0: a datagram.
 */
GLOBAL int is_clients_own(__u32 slot, __u32 flags)
{
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_mapping *m;

	if (!sh || !addr_eq(&sh->ep.shadow_addr, &sh->ep.key.client))
		return false;
	m = mapping_at(sh->ep.key.mapping);
	if (!m || !target_at(m, sh->ep.key.target)->keep_client)
		return false;
	if (sh->tcp.state == DP_SYN_SENT)
		return !(flags & (TCP_SYN | TCP_RST));
	if (flags & TCP_SYN)
		shadow_unname(sh);
	return (flags & TCP_SYN) || bpf_ktime_get_coarse_ns() - sh->tcp.seen_ns > KEPT_NS;
}

#endif
