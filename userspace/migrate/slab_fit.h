// SPDX-License-Identifier: Apache-2.0
// Whether the items of one memcached fit into the memory of another. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "userspace/memcached/stats.h"

namespace doppel::migrate {

// Items of one slab class.
struct ClassLoad {
  uint64_t items = 0;
  uint64_t bytes = 0;  // of all of them, headers included: mem_requested
  uint32_t chunk = 0;  // what each of them takes
  uint64_t chunks = 0; // used ones; more than the items where large ones are stored in pieces
};

// Of `stats items` and `stats slabs`. Without mem_requested (older than 1.5) an item counts as its
// chunk.
std::vector<ClassLoad> class_loads(const memcached::Stats &items, const memcached::Stats &slabs);

// How a server divides its memory, of `stats settings`.
struct SlabShape {
  double factor = 1.25;      // -f
  uint32_t smallest = 48;    // -n, room for key, value and flags
  uint32_t largest = 524288; // slab_chunk_max
  uint64_t memory = 0;       // -m, bytes
};
SlabShape shape_of(const memcached::Stats &settings);

// Chunk sizes, ascending, as slabs_init() of memcached 1.6 makes them.
std::vector<uint32_t> chunk_sizes(const SlabShape &shape);

struct Fit {
  uint64_t likely = 0;  // bytes in whole pages, each item of a class as large as their average
  uint64_t at_most = 0; // each as large as its chunk on the source
  uint64_t memory = 0;  // what the target has
};
Fit fit_of(const std::vector<ClassLoad> &loads, const SlabShape &target);

} // namespace doppel::migrate
