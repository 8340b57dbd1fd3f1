// SPDX-License-Identifier: Apache-2.0
#include "userspace/view/flow_list.h"

#include <algorithm>

namespace doppel {
namespace {
constexpr size_t kTopClients = 10;

// Most first, or as the query says; groups that are equal in it stay by their names.
void arrange(std::vector<FlowGroup> &groups, const FlowQuery &q) {
  const auto value = q.by ? q.by->value : &FlowSum::flows;
  std::stable_sort(groups.begin(), groups.end(), [&](const FlowGroup &a, const FlowGroup &b) {
    return q.descending ? a.sum.*value > b.sum.*value : a.sum.*value < b.sum.*value;
  });
}

} // namespace

void FlowList::add(FlowRow row) {
  in_all_++;
  if (!matches(query_, row))
    return;
  matching_++;
  if (query_.summary)
    sum_up(row);
  else
    keep(std::move(row));
}

void FlowList::keep(FlowRow row) {
  const auto before = [this](const FlowRow &a, const FlowRow &b) {
    return is_before(query_, a, b);
  };
  if (query_.limit == 0 || rows_.size() < query_.limit) {
    rows_.push_back(std::move(row));
    if (query_.limit != 0 && query_.sort)
      std::push_heap(rows_.begin(), rows_.end(), before);
  } else if (query_.sort && before(row, rows_.front())) {
    std::pop_heap(rows_.begin(), rows_.end(), before);
    rows_.back() = std::move(row);
    std::push_heap(rows_.begin(), rows_.end(), before);
  }
}

void FlowList::sum_up(const FlowRow &row) {
  doppel::add(summary_.total, row);
  doppel::add(states_[{row.state, row.reason}], row);
  doppel::add(targets_[{row.mapping, row.target}], row);
  doppel::add(clients_[{row.client.address, 0}], row);
}

void FlowList::finish() {
  if (query_.sort)
    std::sort(rows_.begin(), rows_.end(),
              [this](const FlowRow &a, const FlowRow &b) { return is_before(query_, a, b); });
  if (!query_.summary)
    return;
  for (const auto &[key, sum] : states_)
    summary_.states.push_back({{key.first, key.second}, sum});
  for (const auto &[key, sum] : targets_)
    summary_.targets.push_back({{key.first, key.second.text()}, sum});
  for (const auto &[key, sum] : clients_)
    summary_.clients.push_back({{key.address.text()}, sum});
  for (auto *groups : {&summary_.states, &summary_.targets, &summary_.clients})
    arrange(*groups, query_);
  const size_t shown =
      std::min<uint64_t>(summary_.clients.size(), query_.limit != 0 ? query_.limit : kTopClients);
  summary_.more_clients = summary_.clients.size() - shown;
  summary_.clients.resize(shown);
}

} // namespace doppel
