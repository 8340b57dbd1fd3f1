// SPDX-License-Identifier: Apache-2.0
// Takes connections one by one and keeps what a query wants of them: the rows that are shown, once
// each, or sums. Pure.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "userspace/view/flow_query.h"

namespace doppel {

struct FlowGroup {
  std::vector<std::string> names; // state and reason; mapping and target; client
  FlowSum sum;
};

struct FlowSummary {
  FlowSum total;
  std::vector<FlowGroup> states, targets; // all of them
  std::vector<FlowGroup> clients;         // as many as the limit allows, by address
  uint64_t more_clients = 0;
};

class FlowList {
public:
  explicit FlowList(FlowQuery query) : query_(std::move(query)) {}

  void add(FlowRow row);
  // After the last row.
  void finish();

  // What finish() left.
  const FlowQuery &query() const { return query_; }
  const std::vector<FlowRow> &rows() const { return rows_; } // unless it is a summary
  const FlowSummary &summary() const { return summary_; }    // of a summary
  uint64_t in_all() const { return in_all_; }                // that were added
  uint64_t matching() const { return matching_; }            // of these
  uint64_t more() const {
    return query_.summary ? 0 : matching_ - rows_.size();
  } // beyond the limit

private:
  void keep(FlowRow row);
  void sum_up(const FlowRow &row);

  FlowQuery query_;
  std::vector<FlowRow> rows_; // with a limit and an order a heap, the last in front
  uint64_t in_all_ = 0, matching_ = 0;
  std::map<std::pair<std::string, std::string>, FlowSum> states_;
  std::map<std::pair<std::string, Endpoint>, FlowSum> targets_;
  std::map<Endpoint, FlowSum> clients_; // without their ports
  FlowSummary summary_;
};

// As a table for people. What the limit leaves out is told.
void print_text(std::ostream &out, const FlowList &list);
// {"flows": [...], "more": ..., "matching": ..., "in_all": ...}, a line for each connection; of a
// summary {"summary": {...}, "matching": ..., "in_all": ...}.
void print_json(std::ostream &out, const FlowList &list);

} // namespace doppel
