// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The maps and the configuration of the host's build. Small, so that all of it gets full. */
#include "maps.bpf.h"
#include "registry.h"

const volatile struct dp_config cfg = {
	.cookie = 0x5eed0000,
	.link = HOST_LINK,
	.port_first = HOST_FIRST_PORT,
	.ports = HOST_PORTS,
	.slots = HOST_SLOTS,
	.flow_cap = HOST_FLOW_CAP,
	.rto_min_ms = 200,
	.rto_max_ms = 60000,
	.tries = 3,
	.syn_tries = 2,
	.backoff_ms = 250,
	.embryonic = 4,
	.flows = HOST_FLOWS,
};

#define DEFINE(m) typeof(m) m
DEFINE(ports);
DEFINE(port_map);
DEFINE(address_map);
DEFINE(prefixes);
DEFINE(mappings);
DEFINE(flows);
DEFINE(syns);
DEFINE(shadows);
DEFINE(free_slots);
struct free_queue host_free_slots, host_free_further; /* by pool */
DEFINE(pools);
DEFINE(pool_of);
DEFINE(store);
DEFINE(chunks);
DEFINE(free_chunks);
DEFINE(fresh_chunks);
DEFINE(freed_ranges);
DEFINE(clients);
DEFINE(ledger);
DEFINE(limits);
DEFINE(preambles);
DEFINE(timer_queue);
DEFINE(timer);
DEFINE(due);
DEFINE(events);
DEFINE(control);
DEFINE(meta);
DEFINE(keeper);
DEFINE(scratch);
DEFINE(lead);
DEFINE(copies);
DEFINE(udp_programs);
DEFINE(udp);
DEFINE(visits);
DEFINE(fragments);
DEFINE(copying);
DEFINE(key_streams);
DEFINE(key_lines);
DEFINE(key_writers);
DEFINE(key_notes);
DEFINE(keys_scratch);
DEFINE(converge);
DEFINE(key_watch);
DEFINE(key_samples);
DEFINE(key_sampled);

enum {
	HOST_WAYS = HOST_MAPPINGS * DP_MAX_TARGETS
}; /* to targets */

#define NUMBER(field) (sizeof(*(field)) / sizeof(int))
#define KEYED(m, entries)                                                                          \
	{                                                                                          \
#m, &(m), NUMBER((m).type), sizeof(*(m).key), sizeof(*(m).value), entries          \
	}
#define QUEUE(m, entries)                                                                          \
	{                                                                                          \
#m, &(m), NUMBER((m).type), 0, sizeof(*(m).value), entries                         \
	}

const struct host_map_row host_map_rows[] = {
	KEYED(ports, NUMBER(ports.max_entries)),
	KEYED(port_map, 16),
	KEYED(address_map, 16),
	KEYED(prefixes, 16),
	KEYED(mappings, HOST_MAPPINGS),
	KEYED(flows, HOST_FLOWS),
	KEYED(syns, HOST_SYNS),
	KEYED(shadows, HOST_SLOTS),
	QUEUE(host_free_slots, HOST_PORTS),
	QUEUE(host_free_further, HOST_PORTS),
	KEYED(pools, HOST_POOLS),
	KEYED(pool_of, 1),
	KEYED(store, HOST_CHUNKS),
	KEYED(chunks, HOST_CHUNKS),
	QUEUE(free_chunks, HOST_CHUNKS),
	KEYED(fresh_chunks, NUMBER(fresh_chunks.max_entries)),
	QUEUE(freed_ranges, 256),
	KEYED(clients, NUMBER(clients.max_entries)),
	KEYED(ledger, HOST_WAYS + 1),
	KEYED(limits, HOST_WAYS),
	KEYED(preambles, HOST_WAYS),
	QUEUE(timer_queue, HOST_SLOTS),
	KEYED(timer, NUMBER(timer.max_entries)),
	QUEUE(due, 256),
	{"events", &events, NUMBER(events.type), 0, 0, 0},
	KEYED(control, NUMBER(control.max_entries)),
	{"meta", &meta, NUMBER(meta.type), sizeof(int), DP_META_SIZE, 1},
	{"keeper", &keeper, NUMBER(keeper.type), sizeof(int), DP_META_SIZE, 1},
	KEYED(scratch, NUMBER(scratch.max_entries)),
	KEYED(lead, NUMBER(lead.max_entries)),
	{"copies", &copies, NUMBER(copies.type), sizeof(int), sizeof(int), 1},
	{"udp_programs", &udp_programs, NUMBER(udp_programs.type), sizeof(int), sizeof(int), 1},
	KEYED(udp, NUMBER(udp.max_entries)),
	KEYED(visits, 64),
	KEYED(fragments, 16),
	{"copying", &copying, NUMBER(copying.type), sizeof(int), COPYING_SIZE, 1},
	KEYED(key_streams, HOST_FLOWS),
	KEYED(key_lines, 2),
	KEYED(key_writers, NUMBER(key_writers.max_entries)),
	{"key_notes", &key_notes, NUMBER(key_notes.type), 0, 0, 0},
	KEYED(keys_scratch, NUMBER(keys_scratch.max_entries)),
	KEYED(converge, HOST_MAPPINGS),
	KEYED(key_watch, NUMBER(key_watch.max_entries)),
	{"key_samples", &key_samples, NUMBER(key_samples.type), 0, 0, 0},
	KEYED(key_sampled, NUMBER(key_sampled.max_entries)),
	{0},
};
