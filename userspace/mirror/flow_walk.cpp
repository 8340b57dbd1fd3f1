// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/flow_walk.h"

#include <bpf/bpf.h>

#include <cerrno>

namespace doppel {
namespace {
constexpr uint32_t kBatch = 512; // rows per step
} // namespace

Result<FlowWalk::Found> FlowWalk::read(const MapTable &flows) {
  if (keys_.empty()) {
    keys_.resize(kBatch);
    values_.resize(kBatch);
  }
  bpf_map_batch_opts options{};
  options.sz = sizeof(options);
  auto count = static_cast<uint32_t>(keys_.size());
  uint32_t next = 0;
  const int err = bpf_map_lookup_batch(flows.fd.get(), token_ ? &*token_ : nullptr, &next,
                                       keys_.data(), values_.data(), &count, &options);
  if (err && errno == ENOSPC) { // a hash is read by whole buckets, and one has more than that
    keys_.resize(2 * keys_.size());
    values_.resize(keys_.size());
    return Found{0, true, token_};
  }
  if (err && errno != ENOENT)
    return sys_error("map flows", "cannot be read", errno);
  const bool more = !err;
  return Found{count, more, more ? std::optional<uint32_t>(next) : std::nullopt};
}

} // namespace doppel
