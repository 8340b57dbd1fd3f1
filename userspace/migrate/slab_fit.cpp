// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/slab_fit.h"

#include <algorithm>
#include <cstdlib>
#include <string>

namespace doppel::migrate {
using memcached::number;
using memcached::Stats;

namespace {
// memcached 1.6: sizeof(item) on 64 bits, settings.slab_page_size, CHUNK_ALIGN_BYTES,
// MAX_NUMBER_OF_SLAB_CLASSES - 1.
constexpr uint32_t kItemHeader = 48;
constexpr uint64_t kPage = 1 << 20;
constexpr uint32_t kAlign = 8;
constexpr size_t kClasses = 63;

uint64_t rounded_up(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit * unit; }

// Counts items of a size into the pages of the class that they fall into.
class Pages {
public:
  explicit Pages(std::vector<uint32_t> chunks)
      : chunks_(std::move(chunks)), used_(chunks_.size()) {}

  void add(uint64_t items, uint64_t size) {
    if (!items || chunks_.empty())
      return;
    const auto at = std::lower_bound(chunks_.begin(), chunks_.end(), size);
    if (at != chunks_.end())
      used_[static_cast<size_t>(at - chunks_.begin())] += items;
    else // in pieces of the largest class
      used_.back() += items * ((size + chunks_.back() - 1) / chunks_.back());
  }

  uint64_t bytes() const {
    uint64_t sum = 0;
    for (size_t i = 0; i < chunks_.size(); i++) {
      const uint64_t a_page = std::max<uint64_t>(1, kPage / chunks_[i]);
      sum += (used_[i] + a_page - 1) / a_page * kPage;
    }
    return sum;
  }

private:
  std::vector<uint32_t> chunks_;
  std::vector<uint64_t> used_; // chunks of each class
};

double decimal(const Stats &stats, const std::string &name, double otherwise) {
  const auto found = stats.find(name);
  const double value = found == stats.end() ? 0 : std::strtod(found->second.c_str(), nullptr);
  return value > 0 ? value : otherwise;
}

} // namespace

std::vector<ClassLoad> class_loads(const Stats &items, const Stats &slabs) {
  std::vector<ClassLoad> loads;
  for (size_t i = 1; i <= kClasses; i++) {
    const std::string n = std::to_string(i);
    ClassLoad load;
    load.items = number(items, "items:" + n + ":number");
    load.bytes = number(items, "items:" + n + ":mem_requested");
    load.chunk = static_cast<uint32_t>(number(slabs, n + ":chunk_size"));
    load.chunks = number(slabs, n + ":used_chunks");
    if (!load.bytes)
      load.bytes = load.items * load.chunk;
    if (load.items)
      loads.push_back(load);
  }
  return loads;
}

SlabShape shape_of(const Stats &settings) {
  SlabShape shape;
  shape.factor = std::max(decimal(settings, "growth_factor", shape.factor), 1.01);
  shape.smallest = static_cast<uint32_t>(decimal(settings, "chunk_size", shape.smallest));
  shape.largest = static_cast<uint32_t>(decimal(settings, "slab_chunk_max", shape.largest));
  shape.memory = number(settings, "maxbytes");
  return shape;
}

std::vector<uint32_t> chunk_sizes(const SlabShape &shape) {
  std::vector<uint32_t> sizes;
  auto size = static_cast<uint32_t>(kItemHeader + shape.smallest);
  while (sizes.size() + 1 < kClasses && size < shape.largest / shape.factor) {
    size = static_cast<uint32_t>(rounded_up(size, kAlign));
    sizes.push_back(size);
    size = static_cast<uint32_t>(size * shape.factor);
  }
  sizes.push_back(shape.largest);
  return sizes;
}

Fit fit_of(const std::vector<ClassLoad> &loads, const SlabShape &target) {
  Pages likely(chunk_sizes(target)), at_most(chunk_sizes(target));
  for (const ClassLoad &load : loads) {
    const uint64_t average = (load.bytes + load.items - 1) / load.items;
    likely.add(load.items, average);
    // What is larger than a chunk of the source is stored there in several.
    at_most.add(load.items, std::max<uint64_t>(load.chunk, average));
  }
  return {likely.bytes(), at_most.bytes(), target.memory};
}

} // namespace doppel::migrate
