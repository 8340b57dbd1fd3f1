// SPDX-License-Identifier: Apache-2.0
// Connections that the target has not answered while the source has, of looks at their shadows.
// Pure.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "doppel/abi.h"

namespace doppel {

// Of one target of one mapping.
struct OwedAnswers {
  uint64_t connections = 0;
  uint64_t since_ns = 0; // CLOCK_MONOTONIC: the one that has waited longest
};

// That the source has answered meanwhile tells them from requests that nobody answers (noreply, a
// long poll). It shows by what the client acknowledges, of which the shadow knows no time: so it
// counts what was acknowledged from one look to another between which the target said nothing. Of
// a connection that the target has never answered one look is enough.
class Owed {
public:
  void look(uint32_t slot, const dp_shadow &shadow, uint64_t now_ns);

  // Those that may be owed: nothing is looked for elsewhere.
  std::vector<uint32_t> slots() const;
  // Another look may tell: a client of these was there within `patience_ns`.
  bool pending(uint64_t now_ns, uint64_t patience_ns) const;

  // By mapping and target, which dp_flow_key has.
  using Row = std::pair<uint32_t, uint32_t>;
  std::map<Row, OwedAnswers> longer_than(uint64_t patience_ns, uint64_t now_ns) const;

private:
  struct One {
    uint32_t gen, rcv_nxt, ack_seen;
    uint64_t since_ns;    // the client's last packet before the first look
    uint64_t asked_ns;    // its last one
    uint64_t answered_ns; // since when the source's answer is known; 0: it is not
    Row row;
  };
  std::map<uint32_t, One> owed_; // by slot
};

} // namespace doppel
