/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause */
/*
 * Types shared by the data plane (bpf/) and user space. Included by both; there
 * is no second copy. A change of any layout here needs a new DP_ABI, which is
 * part of the pin path: two versions never meet in one map. tests/abi compares the
 * layout with the one that is recorded for this DP_ABI.
 *
 * A later version ends what an earlier one has left, and relies on these: the names
 * dp_shadow.gen, dp_shadow.tcp and dp_tcp_state.state, the numbers of DP_CLOSED,
 * DP_TIME_WAIT, DP_CMD_CLOSE, DP_CMD_RESET and of enum dp_command_cb, and
 * dp_control.paused in its place.
 *
 * Byte order: __be16/__be32 and dp_addr are network order, everything else host
 * order. Sequence numbers are host order and compared modulo 2^32 (RFC 9293, 3.4).
 */
#ifndef DOPPEL_ABI_H
#define DOPPEL_ABI_H

#ifdef __bpf__
#include "vmlinux.h"
#else
#include <linux/bpf.h>
#include <linux/types.h>
#endif

/* Both sides see the same layout. */
#ifdef __bpf__
#define DP_ASSERT _Static_assert
#else
#define DP_ASSERT static_assert
#endif

#define DP_ABI 16

#define DP_MAX_MAPPINGS 1024 /* that `max_mappings` of the settings may ask for */
#define DP_MAX_TARGETS	8    /* per mapping */
#define DP_MAX_COPIES	64   /* per target */
#define DP_MAX_SOURCES	8    /* addresses of this host, per target: the route's and further ones */
#define DP_MAX_POOLS	64   /* dp_target.pool */
#define DP_SLOT_BITS                                                                               \
	20 /* a request in skb->cb has room for so many, and for 12 of dp_shadow.gen               \
	    */
#define DP_MAX_PORTS	65536 /* rows of `port_map`, and of `address_map`: a port of a device each */
#define DP_MAX_PREFIXES 524288 /* of all lists, as they are configured */
#define DP_CHUNK_SHIFT	11
#define DP_CHUNK	(1u << DP_CHUNK_SHIFT) /* bytes of the client's stream in one store entry */
#define DP_MAX_SACK	16		       /* ranges the target reported, per shadow */
#define DP_SENDERS	255		       /* dp_tcp_state.sender: more than one CPU */
#define DP_PREAMBLE	508 /* bytes of one, at most: less than any target's MSS by default */
#define DP_NO_SLOT	0xffffffffu
#define DP_NO_DEVICE	0x7fffffffu /* dp_target.oif: there is no route, and nothing is sent */
#define DP_SLOT_GONE	0xfffffffeu
#define DP_LOOPBACK	1 /* ifindex of lo (LOOPBACK_IFINDEX), as dp_target.oif: this host itself */

/* IPv6, or IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2), so that one key serves both. */
struct dp_addr {
	__be32 w[4];
};

enum dp_direction {
	DP_DIR_INGRESS = 0, /* capture what this host receives: it is the source */
	DP_DIR_EGRESS = 1,  /* capture what this host sends: it is a client */
};

enum dp_application {
	DP_APP_AUTO = 0,
	DP_APP_MEMCACHED = 1,
	DP_APP_ANY = 2,
	DP_APP_REDIS = 3,
};

enum dp_lost {
#define DP_LOST(number, name, help) DP_LOST_##name = number,
#include "doppel/reasons.def"
	DP_LOST_N
};

enum dp_excluded {
#define DP_EXCLUDED(number, name, help) DP_EXCLUDED_##name = number,
#include "doppel/reasons.def"
	DP_EXCLUDED_N
};

enum dp_event {
#define DP_EVENT(number, name, help) DP_EVENT_##name = number,
#include "doppel/reasons.def"
	DP_EVENT_N
};

/*
 * Shape of the data plane, fixed at load time (.rodata symbol `cfg`).
 * What may change while attached lives in the map `mappings`.
 */
struct dp_config {
	__u64 netns;	   /* cookie of the network namespace (SO_NETNS_COOKIE); 0: not known */
	__u32 cookie;	   /* random per attach; marks requests in skb->cb */
	__u32 link;	   /* ifindex of DP_LINK */
	__u32 clock;	   /* ifindex of DP_LINK_PEER, whose qdisc is the clock; 0: there is none */
	__u32 clone_flags; /* of bpf_clone_redirect to DP_LINK: 0 or BPF_F_INGRESS */
	__u32 port_first;  /* first shadow port, host order */
	__u32 ports;	   /* shadow ports of a pool */
	__u32 slots;	   /* shadows = pools * ports */

	/* What settings.def has for the data plane, in its order. */
#define DP_FIELD_user_space(field)
#define DP_FIELD_data_plane(field) __u32 field;
#define DP_SETTING(key, former, measure, field, home, when, min, max, standard, help)              \
	DP_FIELD_##home(field)
#include "doppel/settings.def"
#undef DP_FIELD_user_space
#undef DP_FIELD_data_plane
};

/*
 * Map `ports`: array[DP_PORT_WORDS] of __u32, a bitmap of the destination ports that some mapping
 * wants: bit port % 32 of word dp_port_word(). Small, so that a packet which no mapping wants is
 * seldom told so by a cache miss.
 */
#define DP_PORT_WORDS 4096

static inline __u32 dp_port_word(int udp, __u32 port) /* port: host order, 0 .. 65535 */
{
	return (udp ? DP_PORT_WORDS / 2 : 0) + (port >> 5);
}

static inline __u32 dp_port_bit(__u32 port)
{
	return 1u << (port & 31);
}

/* Map `port_map`: hash. Consulted only where `ports` has a bit. */
struct dp_port_key {
	__u32 ifindex;
	__u16 port; /* host order */
	__u8 proto; /* IPPROTO_TCP, IPPROTO_UDP */
	__u8 direction;
};

#define DP_NO_MAPPING 0xffff

struct dp_port_val {
	__u16 mapping; /* index into `mappings`; DP_NO_MAPPING: only addresses of it lead to one */
	__u16 offset;  /* port - first port of the mapping */
	__u16 by_address; /* addresses of it have rows in `address_map`, which go first */
	__u16 pad;
};

/*
 * Map `address_map`: hash, with values as in `port_map`. Consulted only where the port's row there
 * says so: a mapping without an address costs no second look-up.
 */
struct dp_address_key {
	struct dp_port_key port;
	struct dp_addr address; /* that the client connects to; user space: all zero: any */
};

enum dp_prefix {
	DP_PREFIX_INCLUDE = 1,
	DP_PREFIX_EXCLUDE = 2,
};

/*
 * Map `prefixes`: LPM trie, value: __u32, enum dp_prefix. Which clients a mapping wants: the
 * longest prefix of its list decides; who has none is wanted. User space writes a list as a whole
 * before a mapping names it, so that no packet sees a part of one.
 */
struct dp_prefix_key {
	__u32 length; /* of all that follows, bits */
	__u32 list;   /* dp_mapping.clients, and DP_PREFIX_V4 */
	struct dp_addr address;
};

/* Else the prefixes of IPv6 that are shorter than 96 would have IPv4 clients as well. */
#define DP_PREFIX_V4 (1u << 16)

/* Rows of `prefixes`: a reload's lists beside those in force, each with what decides at length 0.
 */
#define DP_PREFIX_ROWS (2 * (DP_MAX_PREFIXES + 2 * DP_MAX_MAPPINGS))

static inline __u32 dp_prefix_length(__u32 bits) /* of the address */
{
	return 32 + bits;
}

/*
 * A SYN that offers this MSS is of a command of doppel's that reads from the server: no mirror of
 * that server copies its connection. Any path that IPv6 may take has it (RFC 8200, 5), and a host
 * whose device asks for it by its MTU would have one of 1253 or 1273.
 */
#define DP_OWN_MSS 1213

/* dp_target.sample: nothing is sent ("dry_run"). */
#define DP_SAMPLE_NONE 1u

struct dp_target {
	struct dp_addr address;
	struct dp_addr shadow_addr; /* this host's address toward the target */
	struct dp_addr nexthop;	    /* the target itself where it is on link; all zero: by route */
	__u32 oif;		    /* device that routes to the target */
	__u16 port;		    /* host order; + dp_port_val.offset */
	__u16 mtu;		    /* of the path to the target, bytes of IP packet */
	__u32 sample;		    /* connections whose hash is below are mirrored; 0: all are;
				     * DP_SAMPLE_NONE: none is */
	__u8 copies;		    /* of each connection; 0 as 1 */
	__u8 n_pools;		    /* 0 as 1 */
	__u8 pool[DP_MAX_SOURCES]; /* of shadow_addr, and then of the further addresses; see dp_pool
				    */
	__u8 keep_client;	   /* copies come from the client's address: shadow_name() */
	__u8 pad;
};

enum dp_mapping_flags {
	DP_MAP_JOIN_NEVER = 1 << 0,
	DP_MAP_ANY_HOST = 1 << 1, /* also frames addressed to other hosts (mirror port) */
	DP_MAP_EGRESS = 1 << 2,	  /* the direction is DP_DIR_EGRESS */
	DP_MAP_CONVERGE = 1 << 3, /* `key_notes` is told which keys may differ */
	DP_MAP_COPIES = 1 << 4,	  /* some target gets more than one copy of each connection */
	DP_MAP_UDP = 1 << 5,	  /* its ports are UDP's */
};

/* Map `mappings`: array[max_mappings], a setting. n_targets = 0: row unused. */
struct dp_mapping {
	__u8 n_targets;
	__u8 application; /* enum dp_application */
	__u16 flags;	  /* enum dp_mapping_flags */
	__u16 ports;	  /* last port of the range - first */
	__u16 clients;	  /* dp_prefix_key.list; 0: all clients are wanted */
	__u64 max_bps;	  /* ceiling on the mirrored bit rate; 0: none */
	__u32 seed;	  /* of the hash that dp_target.sample goes by; 0: dp_config.cookie */
	__u32 pad2;
	struct dp_target target[DP_MAX_TARGETS];
};

/* Map `flows`: hash. One entry per client conversation, target and copy. */
struct dp_flow_key {
	struct dp_addr client;
	struct dp_addr server;
	__be16 client_port;
	__be16 server_port;
	__u8 copy;     /* from 0 on: below dp_target.copies */
	__u8 target;   /* index into dp_mapping.target */
	__u16 mapping; /* index into `mappings`; its protocol is the flow's */
};

enum dp_flow_marks {
	DP_FLOW_RESUME = 1 << 7,  /* the target closed at `next`: a shadow may begin right there */
	DP_FLOW_SUSPECT = 1 << 6, /* the last shadow may have been of no use: `answer` tells */
	DP_FLOW_CARRIED = 1 << 5, /* its bytes are on their way into a new shadow */
	DP_FLOW_UNANSWERED = 1 << 4, /* the target ended the last shadow without a word */
};

struct dp_flow {
	struct bpf_spin_lock lock; /* guards slot, next, ack and the marks */
	__u32 slot;		   /* into `shadows`; DP_NO_SLOT: waits; DP_SLOT_GONE: going */
	__u32 gen;		   /* dp_shadow.gen that slot had when it was bound */
	__u32 next;		   /* not mirrored: first sequence number not yet seen */
	__u32 ack;	     /* without a shadow: last ACK of the client at its last payload byte */
	__u8 excluded;	     /* enum dp_excluded: why there is no shadow */
	__u8 seen;	     /* `next` is valid */
	__u8 ack_valid;	     /* payload was seen, so `ack` is valid */
	__u8 breaks;	     /* consecutive breaks, for the backoff; saturates */
	__u8 push;	     /* the last payload seen ended with PSH: the client's write was over */
	__u8 answered_turns; /* answered payload segments, one after the other; saturates */
	/* How the last shadows ended: see flow_note_end() and flow_settle(). */
	__u8 marks;	/* enum dp_flow_marks */
	__u8 fruitless; /* how many were of no use, one after the other */
	__u8 answer;	/* bytes that the target answered to the last one */
	__u8 hole; /* enum dp_excluded: a packet that could not be read was last; 0: it was not */
	__u8 pad[6];
	__u32 retry;   /* no join before this time, in DP_RETRY_NS of CLOCK_MONOTONIC; 0: at once */
	__u64 seen_ns; /* last packet, coarse CLOCK_MONOTONIC */
};

#define DP_RETRY_SHIFT 24
#define DP_RETRY_NS    (1ull << DP_RETRY_SHIFT) /* 17 ms: 32 bits of it wrap after two years */

/* RFC 9293, 3.3.2, as far as a sender without a reader knows them. */
enum dp_state {
	DP_CLOSED = 0, /* slot never used, or forgotten */
	DP_SYN_SENT,
	DP_ESTABLISHED,
	DP_FIN_WAIT,   /* our FIN is out; FIN-WAIT-1 and -2, by una */
	DP_CLOSE_WAIT, /* the target closed first */
	DP_LAST_ACK,   /* the target closed first, our FIN is out */
	DP_TIME_WAIT,  /* done; the slot is free again but still answers for its port */
	DP_DATAGRAMS,  /* a flow of UDP: the target's datagrams to its port are taken in */
};

enum dp_shadow_flags {
	DP_SH_TS = 1 << 0,	   /* timestamps are offered (SYN_SENT) or in use */
	DP_SH_SACK = 1 << 1,	   /* the same for SACK */
	DP_SH_WSCALE = 1 << 2,	   /* the same for window scale */
	DP_SH_CLIENT_FIN = 1 << 3, /* the client's FIN is at `fin`, in its place */
	DP_SH_CLIENT_RST = 1 << 4, /* the FIN stands for a RST of the client */
	DP_SH_JOINED = 1 << 5,	   /* opened in mid-stream, with a SYN of our own */
	DP_SH_TIMER = 1 << 6,	   /* in the queue `timer_queue` */
	DP_SH_DUE = 1 << 7,	   /* a retransmission is due: the next event sends it */
	DP_SH_RECOVERY = 1 << 8,   /* resending up to `recover` */
	DP_SH_TIMED = 1 << 9,	   /* `timed_seq` is being timed (RFC 6298, 3) */
	DP_SH_ACK_DUE = 1 << 10,   /* the target's bytes up to rcv_nxt are not acknowledged yet */
	DP_SH_RTO = 1 << 11,	   /* the recovery follows a timeout: all in flight may be lost */
	DP_SH_BROKEN = 1 << 12,	   /* TIME_WAIT after a break: answer the target with a RST */
	DP_SH_RST_OWED = 1 << 13,  /* the break could not send it: a command does */
	DP_SH_PUSH = 1 << 14,	   /* the client's last payload ended with PSH */
	DP_SH_RELEASE = 1 << 15,   /* ended: the last reference that is put frees slot and chunks */
	DP_SH_LINGER = 1 << 16,	   /* FIN-WAIT-2: when the timer runs out, it is over */
	DP_SH_FIN_AHEAD = 1 << 17, /* a FIN of the client came at `fin`, beyond a hole */
	DP_SH_RESUME = 1 << 18,	   /* the target ended it at rest: the client goes on in the next */
	DP_SH_TARGET_FIN = 1 << 19, /* rcv_nxt counts the target's FIN */
	DP_SH_CARRY = 1 << 20,	    /* the target ended it too early: a new one takes its bytes */
	DP_SH_PTO = 1 << 21,	    /* due_ns is when a tail loss probe is due (RFC 8985, 7.2) */
	DP_SH_PROBE = 1 << 22,	    /* what is due is a probe */
	DP_SH_PROBED = 1 << 23,	    /* a probe is out, up to `probe_end` */
	DP_SH_STAMP = 1 << 24,	    /* the next resend gets a timestamp of its own: `resent_ts` */
	DP_SH_STAMPED = 1 << 25,    /* it got it, and nothing new was acknowledged since */
	DP_SH_SMALL =
		1 << 26, /* full segments may not pass: what is sent again goes in small ones */
	DP_SH_OWED = 1 << 27,	  /* the target answered nothing since the client's last bytes */
	DP_SH_PREAMBLE = 1 << 28, /* in SYN-SENT: the SYN is answered, and the preamble is not */
	DP_SH_UDP = 1 << 29,	  /* of a flow of UDP: DATAGRAMS, or TIME_WAIT after that */
	DP_SH_KEPT = 1 << 30,	  /* its target had keep_client when it began */
};

struct dp_range {
	__u32 start;
	__u32 end; /* exclusive */
};

/* Whose shadow it is, and where it leads to. */
struct dp_endpoint {
	struct dp_flow_key key;
	struct dp_addr address;	    /* of the target */
	struct dp_addr shadow_addr; /* ours */
	__be16 target_port;
	__be16 shadow_port;
	__u32 oif; /* device toward the target; 0: its flow is just being entered */
};

/*
 * What the shadow's TCP knows: SND.* and RCV.* of RFC 9293, 3.3.1, toward the target, and the
 * client's stream. Set to zero whenever the slot is bound to another flow, but for `store_gen`.
 * What every packet needs comes first: each cache line that a packet touches may be a miss when
 * there are many flows.
 */
struct dp_tcp_state {
	__u8 state; /* enum dp_state */
	__u8 n_sacked;
	__u8 refs;	 /* captures that write to the store right now, and shadow_finish() */
	__u8 sender;	 /* of what is on its way: 1 + CPU % (DP_SENDERS - 1), or DP_SENDERS */
	__u32 flags;	 /* enum dp_shadow_flags */
	__u16 mss;	 /* payload bytes per segment, after options */
	__u8 ttl;	 /* of what we send: the client's, less one hop */
	__u8 rcv_wscale; /* what our SYN offers */
	__u8 snd_wscale; /* what the target's SYN-ACK said */
	__u8 dupacks;
	__u8 tries;   /* consecutive timeouts */
	__u8 breaks;  /* copied to dp_flow.breaks at a break */
	__u8 unacked; /* answers since DP_SH_ACK_DUE was set */
	__u8 quick;   /* so many answers are acknowledged at once; or QUICK_ */
	__u8 half_open_resets;
	__u8 quiets;	   /* how often `quiet` moved; saturates */
	__u8 fruitless;	   /* copied to dp_flow.fruitless at the end */
	__u8 small_passed; /* times that a full segment did not pass, and a small one did */
	__u16 small_at;	   /* when the last time was, in seconds of CLOCK_MONOTONIC, wrapped */

	/* the client's stream */
	__u32 una;	/* oldest unacknowledged */
	__u32 nxt;	/* next to send for the first time */
	__u32 end;	/* behind all that the source is known to have, without a hole */
	__u32 ahead;	/* behind the last byte that came beyond a hole; not after `end`: none */
	__u32 fin;	/* sequence number of the client's FIN */
	__u32 wnd;	/* the target's window, bytes, unscaled */
	__u32 cwnd;	/* the path's: congestion window, bytes */
	__u32 left_out; /* bytes of [una, nxt) that are on no path: SACKed, or lost and not resent
			 */
	__u32 wl1;	/* SEG.SEQ of the last window update */
	__u32 wl2;	/* SEG.ACK of the last window update */
	__u32 store_start; /* first byte whose chunk may still be in the store */
	__u32 store_end;   /* behind all that was ever written to the store */
	__u64 last_chunk;  /* chunk written last, + 1, << 32 | its index in `chunks`; 0: none */

	/* the target's stream */
	__u32 rcv_nxt;
	__u32 ts_recent; /* last TSval of the target */
	__u32 ts_val;	 /* highest TSval we sent */

	__u32 timed_seq; /* ACK above it ends the measurement */
	__u32 srtt_us;	 /* scaled by 8 */
	__u32 rttvar_us; /* scaled by 4 */
	__u32 rto_ms;
	__u64 timed_ns;
	__u64 due_ns;	/* when the oldest byte times out, or a kept ACK has to go; 0: nothing waits
			 */
	__u64 seen_ns;	/* last packet of the client, coarse: the target's keepalives prove nothing.
			 * In TIME_WAIT: when it ended.
			 */
	__u64 heard_ns; /* last answer of the target, or keepalive; coarse */
	__u64 observed;
	__u64 delivered;
	__u32 ack_last; /* client's ACK at its last payload byte, for the join rule */
	__u32 ack_seen; /* highest ACK of the client, of its segments that continued the stream */

	/* congestion and loss: RFC 5681, 6298, 6675, 6937, 8985 (tcp/congestion, tcp/recovery) */
	__u32 ssthresh;	  /* bytes */
	__u32 cwnd_acked; /* bytes acknowledged since cwnd grew last, in congestion avoidance */
	__u32 prior_cwnd; /* before the recovery, should it turn out to be for nothing */
	__u32 prior_ssthresh;
	__u32 recover;	     /* end of the recovery: nxt when the loss was found */
	__u32 rtx;	     /* next byte to look at for resending */
	__u32 lost;	     /* below it, all that is not SACKed is lost */
	__u32 settled;	     /* several senders: holes below it have had the time to be filled */
	__u32 settling;	     /* the same from settling_ns on, once the time is over */
	__u32 rtx_nxt;	     /* nxt at the last resend */
	__u32 budget;	     /* segments that are resent now, whatever cwnd says */
	__u32 prr_delivered; /* RFC 6937: bytes since the recovery began */
	__u32 prr_out;
	__u32 flight;	 /* RecoverFS: bytes in flight when it began */
	__u32 resent_ts; /* TSval of the resend that DP_SH_STAMPED is about */
	__u32 probe_end;
	__u32 resent;
	struct dp_range sacked[DP_MAX_SACK];

	__u64 settling_ns; /* CLOCK_MONOTONIC; 0: no hole waits */
	__u64 opened_ns;
	__u32 isn;
	__u32 irs;
	__u16 mss_offer; /* what our SYN says; once it is answered, what the target's does */
	__u8 hole; /* enum dp_excluded: a packet at hole_seq could not be read; 0: there was none */
	__u8 dup_thresh; /* DupThresh: grows where the path reorders */
	__u32 hole_seq;
	__u32 quiet;	 /* last place at which all was acknowledged, and the client's write over */
	__u32 hole_len;	 /* bytes that the packet at hole_seq had, as far as it told */
	__u32 store_gen; /* dp_store_key.gen of its chunks; raised when all else becomes 0 */
	__u32 chunks;	 /* that it holds; atomic while somebody writes to the store */
	__u32 preamble;	 /* bytes between the SYN and the stream */
	__u32 refused;	 /* when an unacceptable segment was answered last, ms, wrapped */
};

/*
 * Map `pools`: array. A pool is the whole range of shadow ports, of one address of this host. Pool
 * 0 is of all addresses that have none of their own: what the routes to the targets say. The others
 * are of addresses that a target lists ("shadow_addresses"), and map `pool_of`, a hash, has those:
 * the address of a packet and its port are one slot, whatever target it comes from. User space
 * gives a pool another address only while no target names it and none of its slots is taken.
 */
struct dp_pool {
	struct dp_addr address; /* pool 0: all zero */
	__s64 taken; /* slots that are not free; atomic; counted where there are several */
};

/*
 * Map `shadows`: array[slots]; slot = pool * dp_config.ports + shadow port - dp_config.port_first.
 * `ep` is written while the slot is unbound; `tcp` is guarded by `lock`. `gen` changes whenever the
 * slot is bound to another flow.
 */
struct dp_shadow {
	struct bpf_spin_lock lock;
	__u32 gen; /* 31 bits */
	struct dp_endpoint ep;
	struct dp_tcp_state tcp;
};

/*
 * Map `store`: hash of dp_store_key, value: index into `chunks`. Chunk n of a shadow holds stream
 * bytes n*DP_CHUNK .. The payload itself lies in an array, so that a look-up meets small rows, and
 * a new chunk needs no initial content (a row of a hash is written as a whole).
 */
struct dp_store_key {
	__u32 slot;
	__u32 gen;   /* dp_tcp_state.store_gen */
	__u32 chunk; /* sequence number >> DP_CHUNK_SHIFT */
};

/*
 * Map `chunks`: array. `present` of one that is `marked` has a bit for each byte of `data` that
 * came beyond a hole; it is also the DP_PIECE bytes behind `data` into which no write goes: see
 * store_piece().
 */
#define DP_PIECE 256
struct dp_chunk {
	__u8 data[DP_CHUNK];
	__u64 present[DP_PIECE / 8];
	/* Where a client's connection has several shadows: bpf/share.bpf.h. */
	struct bpf_spin_lock lock;
	__u16 holders; /* keys of `store` that lead here */
	__u16 filled;  /* bytes before this offset came in order, and are not written again */
	__u32 marked;  /* 1: `present` is that of who has the chunk now; 0: nothing is set in it */
	__u32 pad;
};

/*
 * Map `free_chunks`: stack of __u32, the chunks that were used and are free again.
 * Map `fresh_chunks`: array[1], those that never were: attach need not fill a stack.
 */
struct dp_fresh {
	struct bpf_spin_lock lock;
	__u32 next;
	__u32 limit;  /* chunks in the store; set by attach */
	__u32 used;   /* taken right now; atomic */
	__u32 queued; /* of these, nobody's any more (`freed_ranges`): so many at most; atomic */
	/* Where room is looked for when there is little: hints, which are checked when used. */
	__u32 cursor;	   /* the slot to go on from */
	__u32 to_look;	   /* so many slots the timer looks at yet */
	__u32 most_chunks; /* of the shadow that was last seen to hold most, in the slot */
	__u32 most_slot;
	__u32 pad;
};

/*
 * Map `clients`: array[DP_CLIENTS + 1], what the clients hold whose addresses are hashed to that
 * row; in the last row: all of them, without chunks and embryonic. Atomic, and signed: one CPU may
 * count out what another has not counted in yet.
 */
#define DP_CLIENTS (1u << 15)
struct dp_client {
	__s32 chunks;	 /* of the store */
	__s32 flows;	 /* rows of `flows` */
	__s32 ports;	 /* shadows whose slot is not free again */
	__s32 embryonic; /* shadows in SYN-SENT */
};

/* How many lines counters.def has. */
enum dp_counter {
#define DP_COUNTER(group, name, kind, help) DP_COUNTER_##name,
#include "doppel/counters.def"
	DP_COUNTER_N
};

/* How many lines moments.def has. */
enum dp_moment {
#define DP_MOMENT(name, help) DP_MOMENT_##name,
#include "doppel/moments.def"
	DP_MOMENT_N
};

/* When things happened last: CLOCK_MONOTONIC, coarse, ns; 0: never. */
struct dp_moments {
#define DP_MOMENT(name, help) __u64 name;
#include "doppel/moments.def"
	__u64 lost[DP_LOST_N];	       /* bytes, by that reason */
	__u64 excluded[DP_EXCLUDED_N]; /* the same */
};

/*
 * Map `ledger`: per-CPU array of dp_ledger_cells(), in the order of dp_ledger_cell(), and before
 * them one cell DP_LEDGER_GLOBAL for what belongs to no mapping. Bytes are request payload.
 *
 * Each per-CPU cell keeps the identity by itself:
 *     observed = delivered + in_flight + sum(lost) + sum(excluded)
 * because a transaction touches one cell only; in_flight is signed, as bytes may
 * be accepted on one CPU and acknowledged on another. `begin` is raised before
 * and `end` after a transaction. bpf(2) copies a cell in ascending order of
 * words, so a copy with end == begin is one moment's state; else read again.
 *
 * Of `last` the latest of all CPUs counts, not the sum.
 */
struct dp_ledger {
	__u64 end;
#define DP_FIELD_total			    __u64
#define DP_FIELD_gauge			    __s64
#define DP_COUNTER(group, name, kind, help) DP_FIELD_##kind name;
#include "doppel/counters.def"
#undef DP_FIELD_total
#undef DP_FIELD_gauge
	struct dp_moments last;
	__u64 lost[DP_LOST_N];
	__u64 excluded[DP_EXCLUDED_N];
	__u64 event[DP_EVENT_N];
	__u64 begin;
};

#define DP_LEDGER_GLOBAL 0

static inline __u32 dp_ledger_cell(__u32 mapping, __u32 target)
{
	return DP_LEDGER_GLOBAL + 1 + mapping * DP_MAX_TARGETS + target;
}

static inline __u32 dp_ledger_cells(__u32 mappings)
{
	return dp_ledger_cell(mappings, 0);
}

/*
 * Map `limits`: array[max_mappings * DP_MAX_TARGETS], per mapping and target, shared by all CPUs;
 * counted with atomic adds and judged without a lock, so limits hold to within a packet per CPU.
 */
struct dp_limit {
	__s64 embryonic; /* shadows in SYN-SENT */
	__u64 window_ns; /* start of the current window of DP_LIMIT_NS */
	__u64 bytes;	 /* accepted in it */
	__u64 commands;	 /* not 0: a flow here was seen to speak memcached */
	/* Retransmission timeout of a shadow that was just opened, in ms, and when in s << 32:
	 * those that follow begin with it (RFC 9040, 8).
	 */
	__u64 rto;
	/* What the path was found to take, bytes of IP packet, and until when that is believed, in
	 * seconds of CLOCK_MONOTONIC << 32.
	 */
	__u64 path_mtu;
	__u64 back_ns; /* when the target last answered a SYN, or what a timeout had sent again;
			  coarse */
	__s64 chunks;  /* of the store, of all its shadows */
};
#define DP_LIMIT_NS 100000000ull

/* Map `preambles`: array, as `limits`: what a shadow that joins sends before the client's bytes. */
struct dp_preamble {
	__u32 len; /* bytes; 0: nothing */
	__u8 data[DP_PREAMBLE];
};

/* Map `events`: ring buffer toward the keeper. */
enum dp_retransmit_kind {
	DP_RETRANSMIT_DUE = 1, /* a retransmission is due: answer with DP_CMD_RESEND */
};

struct dp_retransmit {
	__u32 kind;
	__u32 slot;
	__u32 gen;
	__u32 pad;
};

#include "doppel/keys.h"

/*
 * Map `free_slots`: array, by pool, of queues of __u32, which attach fills with the pool's slots.
 * FIFO, so that a shadow port rests as long as possible before it is used again (RFC 9293, 3.4.3).
 *
 * Map `meta`: array[1] of dp_meta_size() bytes, JSON and a NUL behind it, written by attach, reload
 * and the keeper.
 * Map `keeper`: array[1] of the same, what the keeper alone writes: that it is there, and what it
 * finds.
 */
#define DP_META_SIZE	65536
#define DP_META_MAPPING 2048 /* bytes for each mapping: eight targets, and names of 32 bytes */

static inline __u32 dp_meta_size(__u32 max_mappings)
{
	return DP_META_SIZE + max_mappings * DP_META_MAPPING;
}

/*
 * Map `control`: array[1]. detach stops capture by it.
 */
struct dp_control {
	__u32 paused; /* 1: no new flow is opened, bytes of open ones are excluded */
	__u32 pad;
};

/*
 * The qdisc of DP_LINK_PEER holds a packet of so many bytes for so long: the fast hand of the
 * clock, and the slow one. skb->priority chooses the class: the handle, + 1 and the hand.
 */
#define DP_CLOCK_BYTES	 64
#define DP_CLOCK_MS	 10
#define DP_CLOCK_SLOW_MS 1000
#define DP_CLOCK_HANDLE	 0xd0990000u

/* Map `udp_programs`: what the programs on the hooks call for UDP. */
enum dp_udp_program {
	DP_UDP_INGRESS = 0, /* as enum dp_direction */
	DP_UDP_EGRESS,
	DP_UDP_RETURN,
	DP_UDP_DELIVER,
	DP_UDP_PROGRAMS
};

/* BPF_PROG_RUN on DP_PROG_COMMAND: words of __sk_buff.cb in ctx_in. */
enum dp_command_cb {
	DP_CMD_CB_OP = 0,  /* enum dp_command */
	DP_CMD_CB_SLOT,	   /* of the shadow; not used for a flow */
	DP_CMD_CB_GEN,	   /* dp_shadow.gen: nothing is done to another one in that slot */
	DP_CMD_CB_SECONDS, /* for how long the flow must have been silent */
};

enum dp_command {
	DP_CMD_RESEND = 1, /* send what is due on the shadow */
	DP_CMD_CLOSE,	   /* send FIN after the last byte that is in the store */
	DP_CMD_RESET,	   /* give up: count the rest as lost (detached), send RST, free the slot */
	/* Forget the flow whose key (struct dp_flow_key) follows the Ethernet header of data_in, if
	 * it was silent for so long; its shadow closes as after the client's FIN.
	 */
	DP_CMD_EXPIRE,
	/* The same for a flow that the source has ended: another event, and what lies beyond a hole
	 * is lost as client_gap.
	 */
	DP_CMD_SOURCE_GONE,
	DP_CMD_MTU, /* the target's row has another MTU: its segments follow from here on */
};

/* Keys of hashes have no holes, whose content would count. */
DP_ASSERT(sizeof(struct dp_flow_key) == 40, "hash key without holes");
DP_ASSERT(sizeof(struct dp_port_key) == 8, "hash key without holes");
DP_ASSERT(sizeof(struct dp_address_key) == 24, "hash key without holes");
DP_ASSERT(sizeof(struct dp_prefix_key) == 24, "hash key without holes");
DP_ASSERT(sizeof(struct dp_store_key) == 12, "hash key without holes");
DP_ASSERT(sizeof(struct dp_port_val) == 8, "layout is ABI");
DP_ASSERT(sizeof(struct dp_target) == 72, "layout is ABI");
DP_ASSERT(sizeof(struct dp_mapping) == 24 + DP_MAX_TARGETS * 72, "layout is ABI");
DP_ASSERT(sizeof(struct dp_flow) == 48, "layout is ABI");
DP_ASSERT(sizeof(struct dp_endpoint) == 80, "layout is ABI");
DP_ASSERT(sizeof(struct dp_tcp_state) == 424, "layout is ABI");
DP_ASSERT(sizeof(struct dp_shadow) == 512, "layout is ABI");
DP_ASSERT(sizeof(struct dp_pool) == 24, "layout is ABI");
DP_ASSERT(sizeof(struct dp_chunk) == DP_CHUNK + DP_PIECE + 16, "layout is ABI");
DP_ASSERT(sizeof(struct dp_fresh) == 40, "layout is ABI");
DP_ASSERT(sizeof(struct dp_client) == 16, "layout is ABI");
DP_ASSERT(sizeof(struct dp_ledger) == 8 * (2 + DP_COUNTER_N + DP_MOMENT_N + 2 * DP_LOST_N +
					   2 * DP_EXCLUDED_N + DP_EVENT_N),
	  "layout is ABI");
DP_ASSERT(sizeof(struct dp_limit) == 64, "layout is ABI");
DP_ASSERT(sizeof(struct dp_preamble) == 512, "layout is ABI");
DP_ASSERT(sizeof(struct dp_retransmit) == 16, "layout is ABI");
DP_ASSERT(sizeof(struct dp_control) == 8, "layout is ABI");

#endif
