/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause */
/* What the host's kernel has to know of the maps, and the sizes that both sides share. */
#ifndef DOPPEL_FUZZ_REGISTRY_H
#define DOPPEL_FUZZ_REGISTRY_H

enum {
	HOST_LINK = 7,
	HOST_DEVICE = 2,
	HOST_FIRST_PORT = 20000,
	HOST_MAPPINGS = 64,
	HOST_PORTS = 3,
	HOST_POOLS = 2,
	HOST_SLOTS = HOST_POOLS * HOST_PORTS,
	HOST_FLOWS = 6,
	HOST_SYNS = 6,
	HOST_CHUNKS = 40,
	HOST_FLOW_CAP = 48 << 10,
	HOST_CPUS = 2,
};

struct host_map_row {
	const char *name;
	const void *map;
	unsigned type;
	unsigned key_size;
	unsigned value_size;
	unsigned entries;
};

#ifdef __cplusplus
extern "C"
#else
extern
#endif
	const struct host_map_row host_map_rows[];

#endif
