// SPDX-License-Identifier: Apache-2.0
#include "userspace/keeper/expiry.h"
#include "userspace/util/clock.h"

#include <bpf/bpf.h>

#include <cerrno>

namespace doppel {
namespace {
constexpr uint32_t kBatch = 512; // rows per step

} // namespace

Result<Expiry> Expiry::open(const Pins &pins) {
  auto program = TRY(CommandProgram::open(pins));
  auto flows = TRY(open_table(pins, "flows", sizeof(dp_flow)));
  auto shadows = TRY(open_table(pins, "shadows", sizeof(dp_shadow)));
  auto ledger = TRY(open_table(pins, "ledger", sizeof(dp_ledger)));
  return Expiry(std::move(program), std::move(flows), std::move(shadows), std::move(ledger));
}

Result<int64_t> Expiry::known(const std::vector<NamedMapping> &mappings) const {
  int64_t sum = 0;
  for (const NamedMapping &m : mappings)
    for (uint32_t t = 0; t < m.targets.size(); t++) {
      auto cell = TRY(read_cell(ledger_, m.row * DP_MAX_TARGETS + t));
      sum += cell.waiting + cell.open;
    }
  return sum;
}

Result<bool> Expiry::step(uint32_t silent_s, bool shadows) {
  if (keys_.empty()) {
    keys_.resize(kBatch);
    values_.resize(kBatch);
  }
  bpf_map_batch_opts options{};
  options.sz = sizeof(options);
  auto count = static_cast<uint32_t>(keys_.size());
  uint32_t next = 0;
  const int err = bpf_map_lookup_batch(flows_.fd.get(), token_ ? &*token_ : nullptr, &next,
                                       keys_.data(), values_.data(), &count, &options);
  if (err && errno == ENOSPC) { // a hash is read by whole buckets, and one has more than that
    keys_.resize(2 * keys_.size());
    values_.resize(keys_.size());
    return true;
  }
  if (err && errno != ENOENT)
    return sys_error("map flows", "cannot be read", errno);
  const bool more = !err;
  const uint64_t now = monotonic_ns(), silence = uint64_t{silent_s} * 1'000'000'000;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t seen = values_[i].seen_ns;
    if (values_[i].slot != DP_NO_SLOT && values_[i].slot != DP_SLOT_GONE) {
      const auto shadow = shadows ? read_shadow(shadows_, values_[i].slot) : std::nullopt;
      seen = shadow ? shadow->tcp.seen_ns : now;
    }
    if (seen + silence < now)
      TRY(program_.expire(keys_[i], silent_s));
  }
  token_ = more ? std::optional<uint32_t>(next) : std::nullopt;
  return more;
}

} // namespace doppel
