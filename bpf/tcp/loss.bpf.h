/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP input, continued: what SACK, duplicates and the first ACKs after a resend tell of losses. A
 * second section under the lock, for the few packets that need it: the way of the others stays
 * short, and so does what the verifier walks.
 */
#ifndef DOPPEL_LOSS_BPF_H
#define DOPPEL_LOSS_BPF_H

#include "ledger.bpf.h"
#include "packet/parse.bpf.h"
#include "tcp/input.bpf.h"
#include "tcp/recovery.bpf.h"
#include "tcp/shadow.bpf.h"

/*
 * What the packet tells of losses. True: a recovery begins. *work: there is something to send.
 * now: coarse; exact: the same moment's exact time, ns.
 */
static __always_inline bool recovery_input_locked(struct dp_shadow *sh, const struct ack_note *note,
						  __u32 tsecr, __u64 now, __u64 exact, bool *work)
{
	__u32 before = sack_bytes(sh), after, delivered = note->acked;
	bool sack = sh->tcp.flags & DP_SH_SACK, dsack = false, begins;
	bool dup = note->dup;

	dsack = sack && note->opt.n_sack && !seq_after(note->opt.sack[0].end, sh->tcp.una);
	if (note->acked)
		recovery_ack_locked(sh, note->acked, tsecr, dsack, now);
	if (sack && note->opt.n_sack)
		dup = sack_locked(sh, &note->opt) || (dup && !dsack);
	if (dup && sh->tcp.una != sh->tcp.nxt)
		recovery_dupack_locked(sh);
	after = sack_bytes(sh);
	if (!sack)
		delivered = dup || note->acked > sh->tcp.mss ? sh->tcp.mss : note->acked;
	else
		delivered = delivered + after > before ? delivered + after - before : 0;
	recovery_settle_locked(sh, exact);
	recovery_count_locked(sh);
	begins = recovery_detect_locked(sh);
	if ((sh->tcp.flags & (DP_SH_RECOVERY | DP_SH_RTO)) == DP_SH_RECOVERY)
		congestion_reduce_locked(sh, delivered);
	else if (sh->tcp.flags & DP_SH_RECOVERY)
		congestion_grow_locked(sh, delivered, sh->tcp.cwnd);
	if (begins)
		shadow_restart_rto_locked(sh, now);
	else if (note->acked && sh->tcp.una != sh->tcp.nxt)
		shadow_restart_probe_locked(sh, now);
	*work = recovery_pending_locked(sh) || shadow_may_send(sh);
	return begins;
}

/*
 * SACK, duplicates, and the first ACKs after a resend: the rest of what tcp_input() has begun.
 * Returns enum input_action: what `act` is, or INPUT_WORK.
 */
GLOBAL int tcp_recovery(struct __sk_buff *skb, const struct pkt *p, __u32 slot, __u32 gen,
			__u32 act)
{
	__u32 zero = 0, tsecr;
	struct scratch_space *s = bpf_map_lookup_elem(&scratch, &zero);
	struct dp_shadow *sh = shadow_at(slot);
	__u64 now = bpf_ktime_get_coarse_ns(), exact = bpf_ktime_get_ns();
	bool begins = false, work = false;
	__u32 timeout;
	struct dp_ledger *l;

	if (!p || !s || !sh)
		return act;
	l = shadow_ledger(sh);
	if (!l)
		return act;
	tsecr = p->plain ? parse_tsecr(skb, p) : s->ack.opt.tsecr;
	bpf_spin_lock(&sh->lock);
	timeout = sh->tcp.flags & DP_SH_RTO;
	if (sh->gen == gen && shadow_is_open(sh) && sh->tcp.state != DP_SYN_SENT)
		begins = recovery_input_locked(sh, &s->ack, tsecr, now, exact, &work);
	/* The ACK that it was about to become goes with what is sent. */
	if (work && act == INPUT_ACK)
		sh->tcp.flags |= DP_SH_ACK_DUE;
	bpf_spin_unlock(&sh->lock);
	if (timeout && s->ack.acked)
		limit_note_back(sh->ep.key.mapping, sh->ep.key.target, now);
	if (begins)
		l->event[DP_EVENT_fast_retransmit]++;
	if (s->ack.opt.n_sack && !seq_after(s->ack.opt.sack[0].end, p->ack))
		l->event[DP_EVENT_dsack]++;
	return work && (act == INPUT_ACK || act == INPUT_DROP) ? INPUT_WORK : act;
}

#endif
