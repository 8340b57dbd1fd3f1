/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the path to a target takes: less than its ends do where a tunnel is on the way. A router
 * tells by ICMP (RFC 1191, RFC 8201), which is believed if it quotes what is on its way (RFC
 * 5927, 4.1); or nobody does, and full segments vanish while small ones arrive (RFC 4821).
 */
#ifndef DOPPEL_PATH_MTU_BPF_H
#define DOPPEL_PATH_MTU_BPF_H

#include "flow/limit.bpf.h"
#include "ledger.bpf.h"
#include "packet/icmp.bpf.h"
#include "packet/txreq.bpf.h"
#include "tcp/recovery.bpf.h"
#include "tcp/shadow.bpf.h"

#define PATH_MTU_LEAST	  552  /* net.ipv4.route.min_pmtu: less is not believed */
#define PATH_MTU_LEAST_V6 1280 /* RFC 8200, 5: every link takes that */

/* After so many timeouts in a row a large segment may be what cannot pass. */
#define BLACK_HOLE_TRIES 3
/* So often within BLACK_HOLE_SECONDS a small one passes then, and a large one did not. A target
 * that was away, and losses after it, look the same once, or twice.
 */
#define BLACK_HOLE_PROOFS  3
#define BLACK_HOLE_SECONDS 60
/* Payload of a small segment, bytes: with its headers less than PATH_MTU_LEAST. */
#define SMALL_PAYLOAD 500

#define MSS_LEAST                                                                                  \
	64 /* what is believed of a SYN-ACK, or a route: less leaves no room for options */

/* Bytes of payload per segment for that MTU, after options. */
static __always_inline __u32 payload_of_mtu(const struct dp_shadow *sh, __u32 mtu)
{
	__u32 headers = shadow_headers(sh);
	__u32 mss = mtu > headers + MSS_LEAST ? mtu - headers : MSS_LEAST;

	return mss - (sh->tcp.flags & DP_SH_TS ? TS_LEN : 0);
}

static __always_inline __u32 mtu_of_payload(const struct dp_shadow *sh)
{
	return sh->tcp.mss + shadow_headers(sh) + (sh->tcp.flags & DP_SH_TS ? TS_LEN : 0);
}

/* This host's own route takes no more. True: its segments are smaller from here on. */
static __always_inline bool path_mtu_obey_locked(struct dp_shadow *sh, __u32 mtu)
{
	__u32 payload = payload_of_mtu(sh, mtu);

	if (payload >= sh->tcp.mss)
		return false;
	sh->tcp.mss = payload;
	sh->tcp.small_passed = 0;
	return true;
}

/* The same for what others say of the path, or what is concluded. */
static __always_inline bool path_mtu_lower_locked(struct dp_shadow *sh, __u32 mtu)
{
	__u32 least = shadow_is_v6(sh) ? PATH_MTU_LEAST_V6 : PATH_MTU_LEAST;

	return path_mtu_obey_locked(sh, mtu > least ? mtu : least);
}

/*
 * Segments for packets of `mtu` bytes, if that is more than before and the target takes them. What
 * had been found in `learnt`, which is not believed any more, is believed again at the first proof:
 * a path that was narrow may be.
 */
static __always_inline void path_mtu_raise_locked(struct dp_shadow *sh, __u32 mtu, __u32 learnt,
						  __u64 now_s)
{
	__u32 most = sh->tcp.mss_offer + shadow_headers(sh);
	__u32 payload = payload_of_mtu(sh, mtu < most ? mtu : most);

	if (payload <= sh->tcp.mss || (sh->tcp.flags & DP_SH_SMALL))
		return;
	sh->tcp.small_passed = learnt == mtu_of_payload(sh) ? BLACK_HOLE_PROOFS - 1 : 0;
	sh->tcp.small_at = now_s;
	sh->tcp.mss = payload;
}

/* The largest payload of the shadow's next segment, bytes. */
static __always_inline __u32 path_mtu_payload(const struct dp_shadow *sh)
{
	return (sh->tcp.flags & DP_SH_SMALL) && sh->tcp.mss > SMALL_PAYLOAD ? SMALL_PAYLOAD
									    : sh->tcp.mss;
}

/*
 * What is tried after `mtu`. IPv6 asks every link for 1280, so tunnels have that at least; then as
 * routers of old, or, for IPv6 itself, nothing less.
 */
static __always_inline __u32 path_mtu_below(const struct dp_shadow *sh, __u32 mtu)
{
	if (mtu > PATH_MTU_LEAST_V6)
		return PATH_MTU_LEAST_V6;
	return shadow_is_v6(sh) ? mtu : mtu_plateau(mtu);
}

/*
 * A timeout, with sh->tcp.tries counted: does what is sent again go in small pieces? What would not
 * be cut by the next smaller MTU either tells nothing of the path.
 */
static __always_inline void path_mtu_timeout_locked(struct dp_shadow *sh)
{
	__u32 mtu = mtu_of_payload(sh), below = path_mtu_below(sh, mtu);

	if (below < mtu && sh->tcp.tries >= BLACK_HOLE_TRIES && sh->tcp.state != DP_SYN_SENT &&
	    sh->tcp.end - sh->tcp.una > payload_of_mtu(sh, below))
		sh->tcp.flags |= DP_SH_SMALL;
}

/* Something new was acknowledged. True: the MTU was lowered. */
static __always_inline bool path_mtu_ack_locked(struct dp_shadow *sh, __u64 now)
{
	__u16 at = now / NSEC_PER_SEC;

	if (!(sh->tcp.flags & DP_SH_SMALL))
		return false;
	sh->tcp.flags &= ~DP_SH_SMALL;
	if ((__u16)(at - sh->tcp.small_at) > BLACK_HOLE_SECONDS)
		sh->tcp.small_passed = 0;
	sh->tcp.small_at = at;
	if (++sh->tcp.small_passed < BLACK_HOLE_PROOFS)
		return false;
	return path_mtu_lower_locked(sh, path_mtu_below(sh, mtu_of_payload(sh)));
}

#define PATH_MTU_SECONDS 600 /* RFC 1191, 6.3: then it is tried again */

/* A new shadow, whose SYN is not sent yet, begins with what was found lately for its target. */
GLOBAL int path_mtu_recall(__u32 slot)
{
	__u64 now = bpf_ktime_get_coarse_ns() / NSEC_PER_SEC;
	struct dp_shadow *sh = shadow_at(slot);
	struct dp_limit *limit;
	__u32 mtu;

	if (!sh)
		return 0;
	limit = limit_of(sh->ep.key.mapping, sh->ep.key.target);
	if (!limit || now >= limit->path_mtu >> 32)
		return 0;
	mtu = limit->path_mtu;
	if (mtu - shadow_headers(sh) < sh->tcp.mss_offer)
		sh->tcp.mss_offer = mtu - shadow_headers(sh);
	return 0;
}

/* Less than the target offered to take: path_mtu_review() may find that it can be more. */
static __always_inline bool path_mtu_is_short(const struct dp_shadow *sh)
{
	return sh->tcp.state != DP_SYN_SENT &&
	       mtu_of_payload(sh) < sh->tcp.mss_offer + shadow_headers(sh);
}

/*
 * Before it sends: its segments become larger where the route takes more by now, or what was found
 * of the path is not believed any more (RFC 1191, 6.3; RFC 4821, 7.7).
 */
GLOBAL int path_mtu_review(__u32 slot, __u32 gen)
{
	__u64 now = bpf_ktime_get_coarse_ns() / NSEC_PER_SEC;
	struct dp_shadow *sh = shadow_at(slot);
	__u32 mtu, learnt = 0;
	struct dp_limit *limit;
	struct dp_mapping *m;

	if (!sh)
		return 0;
	m = mapping_at(sh->ep.key.mapping);
	limit = limit_of(sh->ep.key.mapping, sh->ep.key.target);
	if (!m || !limit)
		return 0;
	mtu = target_at(m, sh->ep.key.target)->mtu;
	learnt = limit->path_mtu;
	if (now < limit->path_mtu >> 32 && learnt < mtu)
		mtu = learnt;
	bpf_spin_lock(&sh->lock);
	if (sh->gen == gen && shadow_is_open(sh) && sh->tcp.state != DP_SYN_SENT)
		path_mtu_raise_locked(sh, mtu, learnt, now);
	bpf_spin_unlock(&sh->lock);
	return 0;
}

/* Others that begin toward the same target begin with it. The least of what is believed counts. */
static __always_inline void path_mtu_remember(const struct dp_shadow *sh, struct dp_ledger *l)
{
	struct dp_limit *limit = limit_of(sh->ep.key.mapping, sh->ep.key.target);
	__u64 now = bpf_ktime_get_coarse_ns() / NSEC_PER_SEC;
	__u32 mtu = mtu_of_payload(sh), known;

	if (limit) {
		known = limit->path_mtu;
		if (now < limit->path_mtu >> 32 && known < mtu)
			mtu = known;
		limit->path_mtu = (now + PATH_MTU_SECONDS) << 32 | mtu;
	}
	ledger_event(l, DP_EVENT_path_mtu);
}

/*
 * The same about a datagram, of which nothing is known but its ports: what is believed of the path
 * is bounded, and forgotten after a while.
 */
static __always_inline void path_error_udp(const struct dp_shadow *sh, struct dp_ledger *l,
					   const struct icmp_quote *q)
{
	struct dp_limit *limit = limit_of(sh->ep.key.mapping, sh->ep.key.target);
	__u32 least = shadow_is_v6(sh) ? PATH_MTU_LEAST_V6 : PATH_MTU_LEAST;
	__u64 now = bpf_ktime_get_coarse_ns();

	if (l && q->closed)
		l->last.refused = now;
	if (!q->mtu || !limit) {
		ledger_event(l, DP_EVENT_icmp_error);
		return;
	}
	limit->path_mtu =
		(now / NSEC_PER_SEC + PATH_MTU_SECONDS) << 32 | (q->mtu > least ? q->mtu : least);
	ledger_event(l, DP_EVENT_path_mtu);
}

/*
 * An ICMP error. TC_ACT_UNSPEC: it is not about a shadow. Any other verdict: it is, and this host's
 * stack, which knows of no such socket, must not see it.
 */
GLOBAL int path_error(struct __sk_buff *skb)
{
	struct txreq work = {.kind = TXREQ_WORK};
	struct icmp_quote q = {};
	struct dp_shadow *sh;
	struct dp_ledger *l;
	bool ours, lower = false;
	__u32 place;

	if (!icmp_parse(skb, &q))
		return TC_ACT_UNSPEC;
	place = place_of_port(bpf_ntohs(q.sport));
	if (place >= cfg.ports || skb->pkt_type != PACKET_HOST)
		return TC_ACT_UNSPEC;
	work.slot = slot_of(&q.saddr, place);
	sh = shadow_at(work.slot);
	if (!sh || !shadow_is_open(sh) || !sh->ep.oif || is_martian(skb, sh))
		return TC_ACT_UNSPEC;
	work.gen = sh->gen; /* before the identity, which changes after it */
	if (!addr_eq(&q.daddr, &sh->ep.address) || q.dport != sh->ep.target_port ||
	    !addr_eq(&q.saddr, &sh->ep.shadow_addr) ||
	    !(sh->tcp.flags & DP_SH_UDP) != (q.proto == IPPROTO_TCP))
		return TC_ACT_UNSPEC;
	l = shadow_ledger(sh);
	if (q.proto == IPPROTO_UDP) {
		path_error_udp(sh, l, &q);
		return TC_ACT_SHOT;
	}
	bpf_spin_lock(&sh->lock);
	/* RFC 5927, 4.1: what it quotes is on its way. */
	ours = sh->gen == work.gen && shadow_is_open(sh) &&
	       q.seq - sh->tcp.una < sh->tcp.nxt - sh->tcp.una;
	if (ours && q.mtu && sh->tcp.state != DP_SYN_SENT)
		lower = path_mtu_lower_locked(sh, q.mtu);
	if (lower)
		recovery_resegment_locked(sh);
	bpf_spin_unlock(&sh->lock);
	if (!lower) {
		ledger_event(l, ours ? DP_EVENT_icmp_error : DP_EVENT_unacceptable);
		return TC_ACT_SHOT;
	}
	path_mtu_remember(sh, l);
	txreq_write(skb, &work);
	return bpf_redirect(cfg.link, 0);
}

#endif
