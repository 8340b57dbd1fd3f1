// SPDX-License-Identifier: Apache-2.0
// The keys that wait to be compared, each once, in the order of their time. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

namespace doppel::migrate {

struct NotedKey {
  std::string key;
  uint64_t first_ns = 0; // since when it waits, as key notes have it
};

class ConvergeQueue {
public:
  // `settle_ns`: for so long a key rests before it is looked at. A request may come to the source
  // that late. `most`: keys.
  ConvergeQueue(uint64_t settle_ns, size_t most) : settle_ns_(settle_ns), most_(most) {}

  // A request of that moment was about the key. False: there is no room.
  bool note(const std::string &key, uint64_t ns);
  // A key that was taken is to be looked at again.
  void put_back(NotedKey key, uint64_t now);
  // At most so many that have rested.
  std::vector<NotedKey> take(uint64_t now, size_t most);

  size_t size() const { return keys_.size(); }
  // When the next has rested; UINT64_MAX: there is none.
  uint64_t next_due_ns() const { return order_.empty() ? UINT64_MAX : order_.front().due_ns; }
  // Since when the one waits that waits longest; UINT64_MAX: there is none.
  uint64_t oldest_ns() const;

private:
  struct Times {
    uint64_t first_ns, last_ns;
  };
  struct Place {
    uint64_t due_ns;
    std::string key;
  };

  uint64_t settle_ns_;
  size_t most_;
  std::unordered_map<std::string, Times> keys_;
  std::deque<Place> order_; // the next first, about: notes of several CPUs come out of order
};

} // namespace doppel::migrate
