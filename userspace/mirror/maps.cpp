// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/maps.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "userspace/kernel/cpus.h"
#include "userspace/kernel/privileges.h"
#include "userspace/mirror/flow_walk.h"

namespace doppel {
namespace {
constexpr uint32_t kBatch = 1024;
constexpr int kRestTries = 20000; // a transaction takes about a microsecond
constexpr int kNegativeTries = 200;

bpf_map_batch_opts batch_options(uint64_t elem_flags) {
  bpf_map_batch_opts o{};
  o.sz = sizeof(o);
  o.elem_flags = elem_flags;
  return o;
}

// One pass: every CPU's part at rest, though not all at the same moment.
Result<dp_ledger> sum_at_rest(const MapTable &ledger, uint32_t index) {
  const size_t cpus = TRY(possible_cpus());
  std::vector<dp_ledger> parts(cpus);
  std::vector<bool> done(cpus);
  size_t missing = cpus;
  dp_ledger sum{};
  for (int i = 0; i < kRestTries; i++) {
    if (bpf_map_lookup_elem(ledger.fd.get(), &index, parts.data()))
      return sys_error("map ledger", "cannot be read", errno);
    for (size_t cpu = 0; cpu < cpus; cpu++) {
      if (done[cpu] || parts[cpu].end != parts[cpu].begin)
        continue;
      done[cpu] = true;
      add(&sum, parts[cpu]);
      missing--;
    }
    if (!missing)
      return sum;
  }
  return Error{"map ledger", "cell " + std::to_string(index) + " never came to rest",
               "please report it: a program left a transaction open"};
}

} // namespace

Result<MapTable> open_table(const Pins &pins, const std::string &name, size_t value_size,
                            Access access) {
  const std::string path = pins.map(name);
  MapTable t{access == Access::read ? open_pin_to_read(path) : open_pin(path), 0};
  if (!t.fd)
    return sys_error(path, "cannot be opened", errno, "doppel status tells what is missing");
  bpf_map_info info{};
  uint32_t len = sizeof(info);
  if (bpf_obj_get_info_by_fd(t.fd.get(), &info, &len))
    return sys_error(path, "cannot be inspected", errno);
  if (info.value_size != value_size)
    return Error{path,
                 "was made by another build of doppel, with values of " +
                     std::to_string(info.value_size) + " instead of " + std::to_string(value_size) +
                     " bytes",
                 "detach and attach again"};
  t.entries = info.max_entries;
  return t;
}

Result<Attached> find_attached(const std::string &command) {
  TRY(require_privileges(command));
  auto pins = TRY(Pins::locate());
  TRY(pins.require_sight());
  if (!pins.exist())
    return Error{"doppel " + command, "nothing is attached", "doppel attach starts a mirror"};
  auto meta = TRY(read_meta(pins));
  return Attached{pins, meta};
}

std::optional<dp_shadow> read_shadow(const MapTable &shadows, uint32_t slot) {
  dp_shadow s{};
  if (bpf_map_lookup_elem_flags(shadows.fd.get(), &slot, &s, BPF_F_LOCK))
    return {};
  return s;
}

Status each_shadow(const MapTable &shadows, const SeeShadow &see) {
  std::vector<dp_shadow> some(std::min(kBatch, shadows.entries));
  std::array<uint32_t, kBatch> keys;
  bpf_map_batch_opts options = batch_options(BPF_F_LOCK);
  uint32_t at = 0, token = 0;
  while (at < shadows.entries) {
    uint32_t count = std::min(kBatch, shadows.entries - at);
    const int err = bpf_map_lookup_batch(shadows.fd.get(), at ? &token : nullptr, &token,
                                         keys.data(), some.data(), &count, &options);
    if (err && errno != ENOENT)
      return sys_error("map shadows", "cannot be read", errno);
    for (uint32_t i = 0; i < count; i++)
      TRY(see(at + i, some[i]));
    at += count;
    if (err || !count)
      break; // ENOENT: that was the last batch
  }
  return Unit{};
}

Status read_shadows(const MapTable &shadows, std::vector<dp_shadow> &all) {
  all.assign(shadows.entries, {});
  return each_shadow(shadows, [&](uint32_t slot, const dp_shadow &s) -> Status {
    all[slot] = s;
    return Unit{};
  });
}

Result<std::vector<std::pair<dp_flow_key, dp_flow>>> read_flow_table(const MapTable &flows) {
  std::vector<std::pair<dp_flow_key, dp_flow>> rows;
  FlowWalk walk;
  const auto add = [&](const dp_flow_key &key, const dp_flow &flow) -> Status {
    rows.emplace_back(key, flow);
    return Unit{};
  };
  while (TRY(walk.step(flows, add)))
    ;
  return rows;
}

Result<dp_ledger> read_cell(const MapTable &ledger, uint32_t index) {
  // Bytes accepted on one CPU after it was read, and acknowledged on another before that was,
  // make the sum negative for a moment.
  for (int i = 0;; i++) {
    auto sum = sum_at_rest(ledger, index);
    if (!sum || sum->in_flight >= 0 || i == kNegativeTries)
      return sum;
  }
}

bool is_behind(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

bool is_over(const dp_shadow &shadow) {
  return shadow.tcp.state == DP_CLOSED || shadow.tcp.state == DP_TIME_WAIT;
}

} // namespace doppel
