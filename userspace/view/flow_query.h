// SPDX-License-Identifier: Apache-2.0
// Which connections are shown, in which order and how many: the options of `doppel flows`. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "userspace/util/endpoint.h"
#include "userspace/util/error.h"
#include "userspace/view/flow_columns.h"

namespace doppel {

// As they were typed; empty or 0: not given.
struct FlowWords {
  std::string mapping = {}, target = {}, client = {}, state = {}, excluded = {}, sort = {};
  uint64_t limit = 0;
  bool summary = false;
};

struct FlowQuery {
  std::string mapping; // empty: any
  std::optional<Endpoint> target;
  std::optional<Prefix> client;
  std::string state;                 // empty: any
  std::string reason;                // empty: any, and none
  const FlowColumn *sort = nullptr;  // nullptr: in no order
  const FlowSumColumn *by = nullptr; // of a summary; nullptr: by the number of flows
  bool descending = true;            // of either
  uint64_t limit = 0;                // 0: none; of a summary: ten clients
  bool summary = false;
};

// All errors at once, with Exit::usage. Whether a mapping has that name is not looked at.
Result<FlowQuery> parse_flow_query(const FlowWords &words);

bool matches(const FlowQuery &query, const FlowRow &row);

// The order of `query`; rows that are equal in it stand by client, server and target.
bool is_before(const FlowQuery &query, const FlowRow &a, const FlowRow &b);

// What may follow --sort, with commas.
std::string flow_sort_keys();

} // namespace doppel
