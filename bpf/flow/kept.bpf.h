/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Copies from their client's address: a connection of the client's own to the target may have the
 * same two ends, where its port is one of the shadow ports.
 */
#ifndef DOPPEL_KEPT_BPF_H
#define DOPPEL_KEPT_BPF_H

#include "ledger.bpf.h"
#include "tcp/preamble.bpf.h"
#include "tcp/shadow.bpf.h"

/* So long after its end a target still says something to a shadow: Linux' TIME-WAIT
 * (TCP_TIMEWAIT_LEN), or, where it was not told of the end, until it gives up (tcp_retries2, 924
 * s).
 */
#define KEPT_NS	  (60ull * 1000000000)
#define BROKEN_NS (1000ull * 1000000000)

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

/* The target knows, or knew, the shadow's connection. */
static __always_inline bool was_answered(const struct dp_shadow *sh)
{
	return sh->tcp.una != sh->tcp.isn || (sh->tcp.flags & (DP_SH_PREAMBLE | DP_SH_UDP));
}

/*
 * Is what the target sends to the slot's last shadow the client's own? Until the target has
 * answered the shadow's SYN all but that answer is (RFC 9293, 3.10.7.3): there was a connection
 * before, whose end at the target challenges the SYN (RFC 5961, 4). It stays so if the shadow gives
 * up. After a shadow that was answered, what begins a connection is, with all that follows, and
 * what comes late. flags: of TCP; 0: a datagram. ack: host byte order.
 */
GLOBAL int is_clients_own(__u32 slot, __u32 flags, __u32 ack)
{
	struct dp_shadow *sh = shadow_at(slot);
	__u64 late;

	/* Its mapping may have been removed, or be another one now. */
	if (!sh || !(sh->tcp.flags & DP_SH_KEPT) ||
	    !addr_eq(&sh->ep.shadow_addr, &sh->ep.key.client))
		return false;
	if (!was_answered(sh))
		return !(flags & TCP_ACK) || !(flags & (TCP_SYN | TCP_RST)) ||
		       ack != shadow_iss(sh) + 1;
	if (sh->tcp.state == DP_SYN_SENT)
		return false; /* its preamble is on its way */
	if (flags & TCP_SYN)
		shadow_unname(sh);
	late = sh->tcp.flags & DP_SH_BROKEN ? BROKEN_NS : KEPT_NS;
	return (flags & TCP_SYN) || bpf_ktime_get_coarse_ns() - sh->tcp.seen_ns > late;
}

#endif
