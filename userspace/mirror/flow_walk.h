// SPDX-License-Identifier: Apache-2.0
// A pass over the table of flows, some hundred rows a step, so that who makes it can do other
// things meanwhile.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "userspace/mirror/maps.h"

namespace doppel {

class FlowWalk {
public:
  // Calls each(key, flow), which returns a Status, for the next rows of `flows`. True: there are
  // more, and the next call goes on there; else it begins anew. After a failure these rows come
  // again.
  template <typename F> Result<bool> step(const MapTable &flows, F &&each) {
    const auto found = TRY(read(flows));
    for (uint32_t i = 0; i < found.count; i++)
      TRY(each(keys_[i], values_[i]));
    token_ = found.next;
    return found.more;
  }
  void restart() { token_.reset(); }

private:
  struct Found {
    uint32_t count;
    bool more;
    std::optional<uint32_t> next;
  };
  Result<Found> read(const MapTable &flows);

  std::optional<uint32_t> token_; // where the pass has got to
  std::vector<dp_flow_key> keys_;
  std::vector<dp_flow> values_;
};

} // namespace doppel
