// SPDX-License-Identifier: Apache-2.0
// The pinned maps of a running data plane, read as the types of abi.h.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "doppel/abi.h"
#include "userspace/kernel/pins.h"
#include "userspace/mirror/meta.h"

namespace doppel {

// A pinned map, checked to have the value type that this binary knows.
struct MapTable {
  Fd fd;
  uint32_t entries = 0; // max_entries
};
enum class Access { read, write }; // to read works on a BPF file system that is read-only as well
Result<MapTable> open_table(const Pins &pins, const std::string &name, size_t value_size,
                            Access access = Access::write);

// What status, counters and flows begin with. Fails with a way out if nothing is attached.
struct Attached {
  Pins pins;
  Meta meta;
};
Result<Attached> find_attached(const std::string &command);

// All shadows, some at a time: all of them are megabytes. Each is copied under its lock; together
// they are not one moment's state. Ends with the first error of `see`.
using SeeShadow = std::function<Status(uint32_t slot, const dp_shadow &shadow)>;
Status each_shadow(const MapTable &shadows, const SeeShadow &see);
// Into `all`, whose memory serves again.
Status read_shadows(const MapTable &shadows, std::vector<dp_shadow> &all);
std::optional<dp_shadow> read_shadow(const MapTable &shadows, uint32_t slot);

// Not one moment's state: rows may come and go while the table is read.
Result<std::vector<std::pair<dp_flow_key, dp_flow>>> read_flow_table(const MapTable &flows);

// Sum over all CPUs of one cell of `ledger`, each CPU's part at rest. See dp_ledger.
Result<dp_ledger> read_cell(const MapTable &ledger, uint32_t index);

// Of sequence numbers, which wrap (RFC 9293, 3.4).
bool is_behind(uint32_t a, uint32_t b);

// No shadow of that state waits for anything.
bool is_over(const dp_shadow &shadow);

} // namespace doppel
