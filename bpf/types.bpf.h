/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Rows of the maps that only the data plane reads and writes. What user space sees is in abi.h. */
#ifndef DOPPEL_TYPES_BPF_H
#define DOPPEL_TYPES_BPF_H

#include "vmlinux.h"
#include "doppel/abi.h"
#include "keys/lexer.bpf.h"

#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_SEC  1000000000ull

/* The compiler moves no access across it. */
#define barrier() asm volatile("" ::: "memory")

struct tcp_options {
	__u32 tsval;
	__u32 tsecr;
	__u16 mss;
	__u16 flags; /* DP_SH_TS | DP_SH_SACK | DP_SH_WSCALE */
	__u8 wscale;
	__u8 barred; /* enum dp_excluded: an option that no copy can have; 0: there is none */
	__u8 n_sack;
	__u8 bad;
	struct dp_range sack[4]; /* as many as fit into 40 bytes (RFC 2018, 3) */
};

/* What tcp_input() leaves to tcp_recovery(). */
struct ack_note {
	struct tcp_options opt;
	__u32 acked;   /* bytes by which una moved */
	__u32 dup;     /* a duplicate acknowledgement, but for SACK (RFC 5681, 2) */
	__u32 in_time; /* the clock sends an acknowledgement that is kept back */
};

/* Map `scratch`: per-CPU array[1]; used only where bottom halves are off. */
struct scratch_space {
	__u8 data[2 * DP_CHUNK]; /* payload of the segment that is being built */
	struct ack_note ack;	 /* of the packet that return is looking at */
	__u64 ours;		 /* address of our network namespace; 0: not known yet */
};

/* Map `lead`: per-CPU array[1]; used only where bottom halves are off. */
struct store_lead {
	__u32 slot; /* of the shadow that stored a packet's bytes first */
	__u32 gen;  /* of its chunks' keys */
	__u32 from; /* [from, to): the bytes */
	__u32 to;
};

#define SYN_DATA_UNIT 64		    /* bytes */
#define SYN_DATA_MAX  (255 * SYN_DATA_UNIT) /* of what is known: more than any device's MTU */

/*
 * Map `syns`: LRU hash, what a client's SYN said, kept until its handshake is
 * complete. It may evict: the flow then counts as older than its shadow.
 */
struct noted_syn {
	__u32 isn;
	__u32 tsval;
	__u16 mss;
	__u8 wscale;
	__u8 ttl;
	__u16 flags; /* DP_SH_TS | DP_SH_SACK | DP_SH_WSCALE, or SYN_IS_END */
	__u8 barred; /* enum dp_excluded: nobody can, or is to, copy such a connection; 0: one can
		      */
	__u8 data;   /* payload in the SYN (TCP Fast Open), in SYN_DATA_UNIT, rounded up */
};

/*
 * The row is of a connection that is over: its text ends at `isn`, which was at `tsval`, in units
 * of about a second.
 */
#define SYN_IS_END (1u << 15)
#define END_UNIT   30 /* a shift of ns */

/* Map `fragments`: LRU hash, datagrams of UDP in fragments. */
struct fragment_key {
	struct dp_addr saddr;
	struct dp_addr daddr;
	__u32 id; /* of IP, host order */
};

enum fragment_kind {
	FRAGMENT_EARLY = 1, /* one that is not the first came, and the first has not yet */
	FRAGMENT_COPIED,    /* the first was copied: so are the others */
	FRAGMENT_LEFT,	    /* the first was not: nor are the others */
	FRAGMENT_CONSUMED,  /* the target's: the others are taken in, too */
};

struct fragment {
	__u64 ns;
	__be16 sport;
	__be16 dport;
	__u16 mapping;
	__u16 id;     /* COPIED: of the copies, host order, + the copy's number */
	__u8 kind;    /* enum fragment_kind */
	__u8 targets; /* COPIED: bit by bit those that have the first */
	__u8 pad[6];
};

/* Map `udp`: array[pools]. */
struct udp_state {
	__s64 flows;  /* that have a slot of the pool; atomic */
	__u32 cursor; /* pool 0: the slot at which the next look for silent flows begins: a hint */
	__u32 pad;
};

/*
 * Map `visits`: LRU hash, connections that were mirrored here lately, by what their copies on other
 * hosts have as well (flow/visit.bpf.h).
 */
struct visit_key {
	__u32 isn;
	__u32 tsval; /* of the SYN */
};

struct visit {
	struct dp_addr client;
	__be16 port; /* the client's */
	__u8 ttl;    /* of the SYN */
	__u8 pad;
	__u32 at; /* CLOCK_MONOTONIC, in END_UNIT */
};

enum clock_hands {
	CLOCK_FAST = 0, /* while something waits for its time */
	CLOCK_SLOW,	/* while there are shadows that want keepalives */
	CLOCK_HANDS,
};

/* A packet that goes round: tcp/clock.bpf.h. Written under shadow_timer.lock. */
struct clock_hand {
	__u32 goes_round;
	__u32 gen;   /* of the one that counts: any other is dropped */
	__u32 early; /* that came back before its time, one after the other */
	__u32 pad;
	__u64 tick_ns; /* when it came by last */
};

/* Map `due`: shadows that the timer has found something due on, for the next tick of the clock. */
struct due_shadow {
	__u32 slot;
	__u32 gen;
};

/*
 * Maps `timer_queue` and `timer`: slots with something due, each at most once (DP_SH_TIMER), and
 * the one timer that looks at them every TIMER_NS while there are any. Not a timer per shadow:
 * kernel 6.18 allocates timers without locks and fails after some hundred of them.
 */
struct shadow_timer {
	struct bpf_timer timer;
	struct bpf_spin_lock lock;
	__u32 running;
	__u32 ready; /* the callback is set */
	__u32 count; /* entries of `timer_queue` */
	__u64 looked_ns;
	__u32 early; /* shadows that may be tried before their time in this look */
	struct clock_hand hand[CLOCK_HANDS];
	__u32 keepalive_slot; /* where the next look for quiet shadows begins */
	__u32 start; /* something waits, and the clock stands still: whoever has a packet starts it
		      */
	__u64 rest_ns; /* no start before this time */
};
#define TIMER_NS 25000000ull
#define SLICE_NS 1000000ull /* the same while ranges of chunks wait to be freed */

/* Map `freed_ranges`: chunks that nobody uses any more, from key.chunk on. */
struct store_range {
	struct dp_store_key key;
	__u32 left;   /* chunk numbers to look at */
	__u32 client; /* row of `clients` */
	__u32 target; /* row of `limits` */
	__s32 freed;  /* chunks, by this event */
	__u32 spare;  /* of these, chunks that nobody has now */
};

/* Map `key_streams`: LRU hash, how far a connection's requests are read (keys/follow.bpf.h). */
struct key_stream {
	__u32 next; /* sequence number behind what is read */
	__u32 skip; /* so many bytes from there on are of a value */
	__u32 hole_from;
	__u32 hole_to;	   /* bytes before `next` that are not read yet; equal: there are none */
	__u32 hole_skip;   /* so many of them are of a value */
	__u8 known;	   /* a request begins at next + skip, or goes on as `key_lines` has it */
	__u8 cut;	   /* the latter */
	__u8 hole_known;   /* a request begins at hole_from + hole_skip */
	__u8 hole_counted; /* as key_missed */
	__u32 first;	   /* behind a SYN that came since */
	__u8 begun;	   /* that SYN may have begun another connection */
	__u8 plain;	   /* it had no text */
	__u8 protocol;	   /* enum lexer_protocol */
	__u8 pad;
	__u64 hole_ns; /* since when there is one */
};

/* Map `key_writers`: array[KEY_WRITERS], by the hash of a key. */
#define KEY_WRITERS (1u << 16)
struct key_writer {
	struct bpf_spin_lock lock;
	__u32 hash;  /* of the key that was written to last */
	__u64 whose; /* which connection did: keys_whose() */
	__u64 ns;    /* when */
};

/* How far a packet is read. */
struct keys_walk {
	__u64 now;
	__u32 offset; /* of the payload in the packet */
	__u32 at;     /* of the payload, bytes; the next one */
	__u32 end;
	__u32 read_to; /* the window holds the bytes before it */
	__u32 read_from;
	__u32 missed;
	__u32 lost; /* the next request's beginning is not known */
	__u32 pad;
};

/* Map `keys_scratch`: per-CPU array[1]; used only where bottom halves are off. */
struct keys_scratch {
	struct lexer lexer;
	__u8 window[256];
	struct key_stream fresh; /* a row to begin with */
	struct keys_walk walk;
	__u64 whose;	 /* the connection: keys_whose() */
	__u32 converges; /* keys that may differ are told */
	__u32 every;	 /* one key in so many is shown; 0: none */
	__u32 noted;	 /* of the packet's keys */
	struct dp_key_sampled sampled;
};

#endif
