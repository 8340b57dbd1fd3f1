// SPDX-License-Identifier: Apache-2.0
// What `doppel flows` tells of a connection, and what it adds up over many. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/view/snapshot.h"

namespace doppel {

// How a column is shown to people.
enum class FlowUnit { text, bytes, count, milliseconds, microseconds };

// In the order of the table.
struct FlowColumn {
  const char *name;    // in JSON, and of --sort
  const char *heading; // "": it is in JSON alone
  FlowUnit unit;
  std::string (*shown)(const FlowRow &f); // of text; what there is none of is empty
  uint64_t (*value)(const FlowRow &f);    // of all else
  // Below, at or above 0, as `a` is below, at or above `b`: addresses by their numbers.
  int (*order)(const FlowRow &a, const FlowRow &b);
};
const std::vector<FlowColumn> &flow_columns();

// Of several connections together.
struct FlowSum {
  uint64_t flows = 0;
  uint64_t observed = 0, delivered = 0, in_flight = 0, waiting_to_send = 0; // bytes
  uint64_t resent = 0;                                                      // segments
};
void add(FlowSum &sum, const FlowRow &f);

// In the order of the tables and of JSON.
struct FlowSumColumn {
  const char *name, *heading;
  FlowUnit unit;
  uint64_t FlowSum::*value;
};
const std::vector<FlowSumColumn> &flow_sum_columns();

// What FlowRow::state may be: that of a connection without a shadow, then those of enum dp_state.
constexpr const char *kWaiting = "WAITING";
const char *shadow_state_name(uint8_t state);
std::vector<std::string> flow_states();

// "12.5 KiB", "3,000", "2m 05s", "150 us".
std::string human(FlowUnit unit, uint64_t value);

} // namespace doppel
