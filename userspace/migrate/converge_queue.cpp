// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/converge_queue.h"

#include <algorithm>
#include <utility>

namespace doppel::migrate {

bool ConvergeQueue::note(const std::string &key, uint64_t ns) {
  if (const auto known = keys_.find(key); known != keys_.end()) {
    known->second.last_ns = std::max(known->second.last_ns, ns);
    return true;
  }
  if (keys_.size() >= most_)
    return false;
  keys_.emplace(key, Times{ns, ns});
  order_.push_back({ns + settle_ns_, key});
  return true;
}

void ConvergeQueue::put_back(NotedKey key, uint64_t now) {
  const auto [at, fresh] = keys_.try_emplace(key.key, Times{key.first_ns, now});
  at->second.first_ns = std::min(at->second.first_ns, key.first_ns);
  if (fresh)
    order_.push_back({now + settle_ns_, std::move(key.key)});
}

// What a request was about while it rested is looked at now, and once more when that has rested.
std::vector<NotedKey> ConvergeQueue::take(uint64_t now, size_t most) {
  std::vector<NotedKey> due;
  while (due.size() < most && next_due_ns() <= now) {
    Place place = std::move(order_.front());
    order_.pop_front();
    const auto known = keys_.find(place.key);
    const Times times = known->second;
    due.push_back({place.key, times.first_ns});
    if (times.last_ns == times.first_ns || times.last_ns + settle_ns_ <= now) {
      keys_.erase(known);
    } else {
      known->second.first_ns = times.last_ns;
      order_.push_back({times.last_ns + settle_ns_, std::move(place.key)});
    }
  }
  return due;
}

uint64_t ConvergeQueue::oldest_ns() const {
  uint64_t oldest = UINT64_MAX;
  for (const auto &[key, times] : keys_)
    oldest = std::min(oldest, times.first_ns);
  return oldest;
}

} // namespace doppel::migrate
