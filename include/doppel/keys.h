/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause */
/* The part of abi.h, which includes it, that is about the keys of memcached's requests. */
#ifndef DOPPEL_KEYS_H
#define DOPPEL_KEYS_H

/* What a request does to its key. */
enum dp_key_kind {
	DP_KEY_NONE = 0,
	DP_KEY_READ,
	DP_KEY_STORE,	  /* whatever is there */
	DP_KEY_DELETE,	  /* likewise */
	DP_KEY_DEPENDENT, /* what it does depends on what is there */
	DP_KEY_FLUSH,	  /* it is about all keys */
};

enum dp_key_traits {
	DP_KEY_BASE64 = 1 << 0, /* of a meta command with the flag b */
	DP_KEY_STALE =
		1 << 1, /* the item may be marked as stale now: whoever reads it takes a token */
};

/*
 * Map `key_notes`: ring buffer toward who lets the servers converge: a key that a client has
 * written to, and that the target may now have otherwise. The bytes of the key that are not used
 * are not in the ring.
 */
struct dp_key_note {
	__u64 ns;   /* coarse CLOCK_MONOTONIC */
	__u32 size; /* of the value that the request brings, bytes */
	__u16 mapping;
	__be16 server_port;
	struct dp_addr server; /* that the client spoke to */
	__u8 kind;	       /* enum dp_key_kind */
	__u8 traits;	       /* enum dp_key_traits */
	__u8 length;	       /* of the key, bytes */
	__u8 pad;
	__u8 key[256];
};

/* A key is noted, too, where another connection may have written to it that long before. */
#define DP_KEY_RACE_NS 4000000000ull

/*
 * Map `key_watch`: array[1], written by who shows keys. While `until_ns` has not passed, capture
 * reads the requests of all mappings of DP_DIR_INGRESS that may be of memcached, and ring buffer
 * `key_samples` is told one key in `every`, as a dp_key_note whose kind may also be DP_KEY_READ.
 */
struct dp_key_watch {
	__u64 until_ns; /* CLOCK_MONOTONIC; 0: nobody watches */
	__u32 every;
	__u32 pad;
};

/* Map `key_sampled`: per-CPU array[1], the keys of what was read while somebody watched. */
struct dp_key_sampled {
	__u64 keys;    /* all of them */
	__u64 told;    /* those that are in `key_samples` */
	__u64 dropped; /* those that were chosen, and found the ring full */
};

/*
 * Map `converge`: array[max_mappings], written by who lets the servers converge, of all targets
 * of the mapping together; times: CLOCK_MONOTONIC, ns.
 */
struct dp_converge {
	__u64 seen_ns;	 /* when it said last that it works; 0: never */
	__u64 oldest_ns; /* since when the key waits that waits longest; 0: none does */
	__u64 down_ns;	 /* since when a server cannot be asked; 0: both can */
#define DP_CONVERGE(name, help) __u64 name;
#include "doppel/converge.def"
};

/*
 * Map `stale_keys`: hash of a key's digest, written by who lets the servers converge: items that
 * may be marked as stale, and are never read.
 */
#define DP_STALE_KEYS 100000

DP_ASSERT(sizeof(struct dp_key_note) == 296, "layout is ABI");
DP_ASSERT(sizeof(struct dp_converge) == 80, "layout is ABI");
DP_ASSERT(sizeof(struct dp_key_watch) == 16, "layout is ABI");
DP_ASSERT(sizeof(struct dp_key_sampled) == 24, "layout is ABI");

#endif
