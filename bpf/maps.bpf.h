/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every map, declared for all programs and defined by maps.bpf.c alone. */
#ifndef DOPPEL_MAPS_BPF_H
#define DOPPEL_MAPS_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "doppel/abi.h"
#include "types.bpf.h"

#ifdef DEFINE_MAPS
#define MAP
#else
#define MAP extern
#endif

/*
 * A function that the verifier walks once, by itself, and not once per path that leads to it
 * (BTF-typed arguments, kernel 5.6). Its pointers are plain memory, so map values are looked up
 * again inside; array look-ups are inlined. Weak: several objects have it, the linker keeps one.
 */
#define GLOBAL __weak __noinline

/* Sizes marked 1 are set at load time, from the configuration. */

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DP_PORT_WORDS);
	__type(key, __u32);
	__type(value, __u32); /* bits of dp_port_bit() */
} ports SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DP_MAX_PORTS);
	__uint(map_flags, 1 /* BPF_F_NO_PREALLOC: a few rows, written by user space only */);
	__type(key, struct dp_port_key);
	__type(value, struct dp_port_val);
} port_map SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DP_MAX_PORTS);
	__uint(map_flags, 1 /* BPF_F_NO_PREALLOC: a few rows, written by user space only */);
	__type(key, struct dp_address_key);
	__type(value, struct dp_port_val);
} address_map SEC(".maps");

/* Written by user space only: an update takes a lock and memory, a look-up neither. */
MAP struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, DP_PREFIX_ROWS);
	__uint(map_flags,
	       1 /* BPF_F_NO_PREALLOC: the kernel wants it, and unused rows take nothing */);
	__type(key, struct dp_prefix_key);
	__type(value, __u32);
} prefixes SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dp_mapping);
} mappings SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct dp_flow_key);
	__type(value, struct dp_flow);
} flows SEC(".maps");

/* LRU: a SYN flood can only push out other half-open connections. */
MAP struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct dp_flow_key);
	__type(value, struct noted_syn);
} syns SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dp_shadow);
} shadows SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dp_pool);
} pools SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DP_MAX_POOLS);
	__uint(map_flags, 1 /* BPF_F_NO_PREALLOC: a few rows, written by user space only */);
	__type(key, struct dp_addr);
	__type(value, __u32);
} pool_of SEC(".maps");

/* User space makes the queues. */
struct free_queue {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1);
	__type(value, __u32);
};

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct free_queue);
} free_slots SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct dp_store_key);
	__type(value, __u32); /* index into `chunks`, and CHUNK_SHARED */
} store SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dp_chunk);
} chunks SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 1);
	__type(value, __u32);
} free_chunks SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dp_fresh);
} fresh_chunks SEC(".maps");

/* What one event may not free at once. */
MAP struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4096);
	__type(value, struct store_range);
} freed_ranges SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DP_CLIENTS + 1);
	__type(key, __u32);
	__type(value, struct dp_client);
} clients SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dp_ledger);
} ledger SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dp_limit);
} limits SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dp_preamble);
} preambles SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1);
	__type(value, __u32);
} timer_queue SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct shadow_timer);
} timer SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 65536);
	__type(value, struct due_shadow);
} due SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dp_control);
} control SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, DP_META_SIZE); /* set at load time too; a type would fix it */
} meta SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, DP_META_SIZE); /* set at load time too; a type would fix it */
} keeper SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch_space);
} scratch SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct store_lead);
} lead SEC(".maps");

/* doppel_copies, which capture calls with a packet's further copies in `copying`. */
MAP struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} copies SEC(".maps");

/* doppel_udp_*, which the others call for UDP: enum dp_udp_program. */
MAP struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, DP_UDP_PROGRAMS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} udp_programs SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct udp_state);
} udp SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct visit_key);
	__type(value, struct visit);
} visits SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
} fragments SEC(".maps");

#define COPYING_SIZE 128 /* struct copying, whose type is not known here */

MAP struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, COPYING_SIZE);
} copying SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct dp_flow_key);
	__type(value, struct key_stream);
} key_streams SEC(".maps");

/*
 * Lines that are cut at the end of a segment, which is rare. It evicts: nobody removes the line of
 * a connection that ended within it.
 */
MAP struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct dp_flow_key);
	__type(value, struct lexer);
} key_lines SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KEY_WRITERS);
	__type(key, __u32);
	__type(value, struct key_writer);
} key_writers SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} key_notes SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct keys_scratch);
} keys_scratch SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dp_converge);
} converge SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DP_STALE_KEYS);
	__uint(map_flags, 1 /* BPF_F_NO_PREALLOC: written by user space only */);
	__type(key, __u64);
	__type(value, __u8);
} stale_keys SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dp_key_watch);
} key_watch SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} key_samples SEC(".maps");

MAP struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dp_key_sampled);
} key_sampled SEC(".maps");

#ifdef DEFINE_MAPS
const volatile struct dp_config cfg = {};
#else
extern const volatile struct dp_config cfg;
#endif

static __always_inline struct dp_mapping *mapping_at(__u32 i)
{
	return bpf_map_lookup_elem(&mappings, &i);
}

/* The mask stands where the index is used: 6.1 loses bounds over a spill. */
static __always_inline struct dp_target *target_at(struct dp_mapping *m, __u32 t)
{
	__u64 i = t;

	asm volatile("%[i] &= %[mask]" : [i] "+r"(i) : [mask] "i"(DP_MAX_TARGETS - 1));
	return &m->target[i];
}

#endif
