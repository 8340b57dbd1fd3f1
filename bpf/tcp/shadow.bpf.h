/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The shadow: a TCP sender without a reader. State and its transitions; nothing here sends.
 * Functions named *_locked run under dp_shadow.lock and call no helper (bpf_spin_lock, 5.1).
 */
#ifndef DOPPEL_SHADOW_BPF_H
#define DOPPEL_SHADOW_BPF_H

#include "ledger.bpf.h"
#include "maps.bpf.h"
#include "packet/parse.bpf.h"
#include "tcp/congestion.bpf.h"
#include "tcp/seq.bpf.h"

#define INITIAL_RTO_MS	1000 /* RFC 6298, 2.1 */
#define LOST_SYN_RTO_MS 3000 /* RFC 6298, 5.7 */
#define MSS_DEFAULT	536  /* where a target says nothing: RFC 9293, 3.7.1 */
#define MSS_DEFAULT_V6	1220
#define RCV_WINDOW	65535 /* what we advertise, before scaling: nobody reads, so never less */

static __always_inline struct dp_shadow *shadow_at(__u32 slot)
{
	return bpf_map_lookup_elem(&shadows, &slot);
}

/* The port's place in the range of shadow ports; host order, and >= cfg.ports: none. */
static __always_inline __u32 place_of_port(__u32 port)
{
	return port - cfg.port_first;
}

/* Of that place, at that address of this host, which is on the stack. */
static __always_inline __u32 slot_of(const struct dp_addr *own, __u32 place)
{
	__u32 *pool;

	if (cfg.slots == cfg.ports) /* known to the verifier: there is no look-up then */
		return place;
	pool = bpf_map_lookup_elem(&pool_of, own);
	return pool ? *pool * cfg.ports + place : place;
}

static __always_inline __u32 pool_of_slot(__u32 slot)
{
	return slot / cfg.ports;
}

static __always_inline __be16 port_of_slot(__u32 slot)
{
	return bpf_htons(cfg.port_first + slot % cfg.ports);
}

static __always_inline struct dp_pool *pool_at(__u32 pool)
{
	return bpf_map_lookup_elem(&pools, &pool);
}

static __always_inline __u32 target_pools(const struct dp_target *t)
{
	return t->n_pools ?: 1;
}

static __always_inline __u32 target_pool(const struct dp_target *t, __u32 turn)
{
	__u64 i = turn % target_pools(t);

	asm volatile("%[i] &= %[mask]" : [i] "+r"(i) : [mask] "i"(DP_MAX_SOURCES - 1));
	return t->pool[i];
}

/* The address that shadows of that pool have toward the target. */
static __always_inline const struct dp_addr *pool_address(__u32 pool,
							  const struct dp_target *target)
{
	const struct dp_pool *p = pool ? pool_at(pool) : NULL;

	return p ? &p->address : &target->shadow_addr;
}

static __always_inline void pool_count(__u32 pool, __s64 more)
{
	struct dp_pool *p;

	if (cfg.slots == cfg.ports) /* all that is taken is the clients': dp_client.ports */
		return;
	p = pool_at(pool);
	if (p)
		__sync_fetch_and_add(&p->taken, more);
}

/* Takes the slot of that pool that has been free for longest. False: there is none. */
static __always_inline bool slot_take(__u32 pool, __u32 *slot)
{
	void *queue = bpf_map_lookup_elem(&free_slots, &pool);

	if (!queue || bpf_map_pop_elem(queue, slot))
		return false;
	pool_count(pool, 1);
	return true;
}

GLOBAL int slot_give_back(__u32 slot)
{
	__u32 pool = pool_of_slot(slot);
	void *queue = bpf_map_lookup_elem(&free_slots, &pool);

	pool_count(pool, -1);
	/* There is room; since kernel 6.16 the lock may not be had. */
	if (queue && bpf_map_push_elem(queue, &slot, 0))
		bpf_map_push_elem(queue, &slot, 0);
	return 0;
}

static __always_inline struct dp_ledger *shadow_ledger(const struct dp_shadow *sh)
{
	return ledger_cell(sh->ep.key.mapping, sh->ep.key.target);
}

/* Toward a target of IPv6. */
static __always_inline bool shadow_is_v6(const struct dp_shadow *sh)
{
	return !addr_is_v4(&sh->ep.address);
}

/* IP and TCP headers without options of what it sends, bytes. */
static __always_inline __u32 shadow_headers(const struct dp_shadow *sh)
{
	return HEADERS_LEN + (shadow_is_v6(sh) ? IPV6_MORE : 0);
}

static __always_inline bool shadow_is_open(const struct dp_shadow *sh)
{
	return sh->tcp.state != DP_CLOSED && sh->tcp.state != DP_TIME_WAIT;
}

/* Stream bytes (no SYN, no FIN) below una, from the first byte of the stream. */
static __always_inline __u32 snd_una_data(const struct dp_shadow *sh)
{
	__u32 una = sh->tcp.una;

	if (sh->tcp.state == DP_SYN_SENT)
		return una + 1;
	if ((sh->tcp.flags & DP_SH_CLIENT_FIN) && seq_after(una, sh->tcp.fin))
		return sh->tcp.fin;
	return una;
}

/* Bytes that were accepted and are not acknowledged: this shadow's share of in_flight. */
static __always_inline __u32 shadow_pending(const struct dp_shadow *sh)
{
	return sh->tcp.end - snd_una_data(sh);
}

/* Text is in the store beyond a hole of the client's stream. */
static __always_inline bool shadow_has_ahead(const struct dp_shadow *sh)
{
	return seq_after(sh->tcp.ahead, sh->tcp.end);
}

/* The same, or the client's FIN came beyond a hole, and is not in its place yet. */
static __always_inline bool shadow_is_ahead(const struct dp_shadow *sh)
{
	return shadow_has_ahead(sh) ||
	       (sh->tcp.flags & (DP_SH_FIN_AHEAD | DP_SH_CLIENT_FIN)) == DP_SH_FIN_AHEAD;
}

/* A packet of its client could not be read: the first such hole that is not behind us has its name.
 */
static __always_inline void shadow_note_hole_locked(struct dp_shadow *sh, const struct pkt *p,
						    __u32 kind)
{
	if (!seq_after(p->seq + p->payload, sh->tcp.end) ||
	    (sh->tcp.hole && !seq_before(sh->tcp.hole_seq, sh->tcp.end)))
		return;
	sh->tcp.hole_seq = seq_max(p->seq, sh->tcp.end);
	/* A fragment tells nothing of the others. */
	sh->tcp.hole_len = kind == DP_EXCLUDED_fragment ? 1u << 31 : p->payload;
	sh->tcp.hole = kind;
}

/* The name of so many missing bytes of its stream from `from` on; 0: they have none. */
static __always_inline __u32 shadow_hole_name(const struct dp_shadow *sh, __u32 from, __u32 missing)
{
	return sh->tcp.hole_seq - from < missing ? sh->tcp.hole : 0;
}

static __always_inline void shadow_forget_sack_locked(struct dp_shadow *sh)
{
	range_clear(sh->tcp.sacked, DP_MAX_SACK, &sh->tcp.n_sacked);
}

/*
 * All that the client said is acknowledged, and it has not closed: when the target ends the shadow
 * now, nothing of the client's is lost by it.
 */
static __always_inline bool shadow_at_rest(const struct dp_shadow *sh)
{
	return sh->tcp.una == sh->tcp.end && sh->tcp.nxt == sh->tcp.end && !shadow_has_ahead(sh) &&
	       !(sh->tcp.flags & (DP_SH_CLIENT_FIN | DP_SH_FIN_AHEAD));
}

/* The target ended it at rest, and the next shadow may begin right where this one ends. */
static __always_inline bool shadow_resumes(const struct dp_shadow *sh)
{
	return (sh->tcp.flags & DP_SH_RESUME) && sh->tcp.quiet == sh->tcp.end;
}

#define CARRY_CHUNKS 512 /* bounded work */

/*
 * The target ends the shadow and took nothing since all was quiet: what the client said meanwhile
 * crossed the target's end, and belongs to a new connection. `acked`: how far the target says it
 * is. A shadow that delivered nothing proves nothing: its target may end every connection so.
 */
static __always_inline bool shadow_may_carry(const struct dp_shadow *sh, __u32 acked)
{
	__u32 to = seq_max(sh->tcp.end, sh->tcp.ahead);

	return sh->tcp.state != DP_SYN_SENT && sh->tcp.delivered &&
	       !(sh->tcp.flags & DP_SH_RESUME) && sh->tcp.una == sh->tcp.quiet &&
	       !seq_after(acked, sh->tcp.quiet) && seq_after(to, sh->tcp.una) &&
	       to - sh->tcp.una < (CARRY_CHUNKS - 1) * DP_CHUNK;
}

/* An ordinary end by the target, of a shadow at rest: it closes, too, and its flow goes on. */
static __always_inline void shadow_retire_locked(struct dp_shadow *sh)
{
	sh->tcp.flags |= DP_SH_CLIENT_FIN | DP_SH_RESUME;
	sh->tcp.fin = sh->tcp.end;
}

/* The client's FIN is known, and nothing is missing before it. */
static __always_inline bool shadow_fin_placed(const struct dp_shadow *sh)
{
	return (sh->tcp.flags & DP_SH_CLIENT_FIN) && !seq_after(sh->tcp.fin, sh->tcp.end);
}

static __always_inline __u32 shadow_window_end(const struct dp_shadow *sh)
{
	return sh->tcp.una + sh->tcp.wnd;
}

/*
 * Where a segment without text belongs. A target may shrink its window, to nothing when it is
 * short of memory (kernel 6.6, e2142825c120), and takes no acknowledgement from beyond it: with
 * SND.NXT there, it would wait for us to read while we wait for it (RFC 9293, 3.10.7.4 and 3.8.6).
 */
static __always_inline __u32 acceptable_seq(const struct dp_shadow *sh)
{
	return seq_min(sh->tcp.nxt, shadow_window_end(sh));
}

/* Payload that the target's window has room for beyond nxt; bytes. */
static __always_inline __u32 shadow_window_room(const struct dp_shadow *sh)
{
	__s32 room = shadow_window_end(sh) - sh->tcp.nxt;

	return room > 0 ? room : 0;
}

/*
 * So many bytes may be sent for the first time now: what both windows have room for. Sender-side
 * silly window avoidance (RFC 9293, 3.8.6.2.1): less than a segment only when it is all there is,
 * or when nothing is in flight.
 */
static __always_inline __u32 shadow_may_send_bytes(const struct dp_shadow *sh)
{
	__u32 waiting = sh->tcp.end - sh->tcp.nxt, room = shadow_window_room(sh);
	__u32 path = congestion_room(sh);

	if (room > path)
		room = path;
	if ((__s32)waiting <= 0)
		return 0;
	if (room >= waiting)
		return waiting;
	return room >= sh->tcp.mss || sh->tcp.nxt == sh->tcp.una ? room : 0;
}

/* This CPU, as dp_tcp_state.sender has it. Not under a lock: it is a helper's word. */
static __always_inline __u8 this_sender(void)
{
	return 1 + bpf_get_smp_processor_id() % (DP_SENDERS - 1);
}

/* Is there anything new for deliver to send? */
static __always_inline bool shadow_may_send(const struct dp_shadow *sh)
{
	if (sh->tcp.state != DP_ESTABLISHED && sh->tcp.state != DP_CLOSE_WAIT)
		return false;
	if (sh->tcp.nxt == sh->tcp.end)
		return (sh->tcp.flags & DP_SH_CLIENT_FIN) && sh->tcp.nxt == sh->tcp.fin &&
		       congestion_room(sh);
	return shadow_may_send_bytes(sh);
}

/* RFC 6298, 5.1 and 5.3: (re)start when something is outstanding. */
static __always_inline void shadow_restart_rto_locked(struct dp_shadow *sh, __u64 now)
{
	sh->tcp.flags &= ~DP_SH_PTO;
	sh->tcp.due_ns = now + sh->tcp.rto_ms * NSEC_PER_MSEC;
}

/*
 * The same, but first a probe where the end of a flight may be lost: it is sooner than a timeout,
 * and does no harm (RFC 8985, 7.2). Once a flight, and only where SACK tells what it was good for.
 * A quarter of the shortest timeout is for an acknowledgement that the target keeps back: 50 ms by
 * default, and Linux keeps one for 40 where it expects an answer to go with it (TCP_ATO_MIN).
 */
static __always_inline void shadow_restart_probe_locked(struct dp_shadow *sh, __u64 now)
{
	__u32 pto = (sh->tcp.srtt_us >> 12) + cfg.rto_min_ms / 4; /* 2 SRTT in ms, 2 % short */

	shadow_restart_rto_locked(sh, now);
	if (!sh->tcp.srtt_us || sh->tcp.tries || pto >= sh->tcp.rto_ms ||
	    (sh->tcp.flags & (DP_SH_SACK | DP_SH_RECOVERY | DP_SH_PROBED)) != DP_SH_SACK)
		return;
	sh->tcp.due_ns = now + pto * NSEC_PER_MSEC;
	sh->tcp.flags |= DP_SH_PTO;
}

/* Values of `quick` that are no number of answers: all are acknowledged at once. */
#define QUICK_SLOW   253 /* the client says its next later than ACK_WAIT_NS */
#define QUICK_ALONE  254 /* the last acknowledgement was kept back, and nothing followed */
#define QUICK_ALWAYS 255 /* the target waits for them */

#define ACK_WAIT_NS 40000000ull /* Linux' TCP_DELACK_MIN */

/*
 * The client speaks, for the first time behind an answer. Who does so within ACK_WAIT_NS of that
 * answer, which is what the target said last, is likely to do so again: that answer's
 * acknowledgement goes with it. Who is slower gets none kept back, since a packet for it alone
 * costs more when the clock has to send it.
 */
static __always_inline void shadow_pace_locked(struct dp_shadow *sh, __u64 now)
{
	bool slow = (__s64)(now - sh->tcp.heard_ns) >= (__s64)ACK_WAIT_NS;

	if (!sh->tcp.quick || sh->tcp.quick == QUICK_SLOW || sh->tcp.quick == QUICK_ALONE)
		sh->tcp.quick = slow ? QUICK_SLOW : 0;
}

/* An acknowledgement is all that it waits to send: `due_ns` is its time. */
static __always_inline bool shadow_holds_ack(const struct dp_shadow *sh)
{
	return sh->tcp.state == DP_ESTABLISHED && sh->tcp.una == sh->tcp.nxt &&
	       sh->tcp.nxt == sh->tcp.end &&
	       (sh->tcp.flags & (DP_SH_ACK_DUE | DP_SH_CLIENT_FIN | DP_SH_CARRY | DP_SH_DUE |
				 DP_SH_LINGER | DP_SH_PTO)) == DP_SH_ACK_DUE;
}

/* It goes in a packet of its own, whoever found that. */
static __always_inline void shadow_ack_leaves_alone_locked(struct dp_shadow *sh)
{
	if (!shadow_holds_ack(sh))
		return;
	sh->tcp.due_ns = 0;
	if (!sh->tcp.quick)
		sh->tcp.quick = QUICK_ALONE;
}

/* From the measured round-trip time, without backing off. */
static __always_inline void shadow_base_rto_locked(struct dp_shadow *sh)
{
	__u32 rto = ((sh->tcp.srtt_us >> 3) + sh->tcp.rttvar_us) >> 10; /* ms, 2 % short */

	if (rto < cfg.rto_min_ms)
		rto = cfg.rto_min_ms;
	if (rto > cfg.rto_max_ms)
		rto = cfg.rto_max_ms;
	sh->tcp.rto_ms = rto;
}

/* RFC 6298, 2.2 and 2.3, with alpha 1/8 and beta 1/4; r in us. */
static __always_inline void shadow_rtt_locked(struct dp_shadow *sh, __u32 r)
{
	if (!sh->tcp.srtt_us) {
		sh->tcp.srtt_us = r << 3;
		sh->tcp.rttvar_us = r << 1;
	} else {
		__s32 err = (__s32)(r - (sh->tcp.srtt_us >> 3));

		sh->tcp.srtt_us += err;
		if (err < 0)
			err = -err;
		sh->tcp.rttvar_us += err - (sh->tcp.rttvar_us >> 2);
	}
	if (!sh->tcp.srtt_us)
		sh->tcp.srtt_us = 1;
	shadow_base_rto_locked(sh);
}

/* What a target on this host itself says comes by lo, and by no other device. */
static __always_inline bool is_martian(const struct __sk_buff *skb, const struct dp_shadow *sh)
{
	return sh->ep.oif == DP_LOOPBACK && skb->ifindex != DP_LOOPBACK;
}

#endif
