// SPDX-License-Identifier: Apache-2.0
#include "userspace/view/owed.h"

#include <algorithm>

#include "userspace/view/judge_target.h"

namespace doppel {
namespace {
// What takes both long, as a long poll does, the target may answer a little later.
constexpr uint64_t kBehindNs = kSecondNs;

bool is_open(const dp_shadow &s) { return s.tcp.state != DP_CLOSED && s.tcp.state != DP_TIME_WAIT; }

// The source has answered what the client said last, or before, and the target nothing at all.
bool is_left_alone(const dp_shadow &s) {
  return s.tcp.state != DP_SYN_SENT && s.tcp.rcv_nxt == s.tcp.irs + 1 &&
         static_cast<int32_t>(s.tcp.ack_seen - s.tcp.ack_last) > 0;
}

} // namespace

void Owed::look(uint32_t slot, const dp_shadow &s, uint64_t now_ns) {
  if (!is_open(s) || !(s.tcp.flags & DP_SH_OWED)) {
    owed_.erase(slot);
    return;
  }
  const uint64_t seen_ns = std::min<uint64_t>(s.tcp.seen_ns, now_ns);
  const auto known = owed_.find(slot);
  if (known == owed_.end() || known->second.gen != s.gen ||
      known->second.rcv_nxt != s.tcp.rcv_nxt) {
    owed_[slot] = {s.gen,
                   s.tcp.rcv_nxt,
                   s.tcp.ack_seen,
                   seen_ns,
                   seen_ns,
                   is_left_alone(s) ? seen_ns : 0,
                   {s.ep.key.mapping, s.ep.key.target}};
    return;
  }
  One &one = known->second;
  if (!one.answered_ns && (s.tcp.ack_seen != one.ack_seen || is_left_alone(s)))
    one.answered_ns = seen_ns;
  one.asked_ns = seen_ns;
}

std::vector<uint32_t> Owed::slots() const {
  std::vector<uint32_t> list;
  list.reserve(owed_.size());
  for (const auto &[slot, one] : owed_)
    list.push_back(slot);
  return list;
}

bool Owed::pending(uint64_t now_ns, uint64_t patience_ns) const {
  return std::any_of(owed_.begin(), owed_.end(), [&](const auto &entry) {
    return age(now_ns, entry.second.asked_ns) < patience_ns;
  });
}

std::map<Owed::Row, OwedAnswers> Owed::longer_than(uint64_t patience_ns, uint64_t now_ns) const {
  std::map<Row, OwedAnswers> rows;
  for (const auto &[slot, one] : owed_) {
    if (!one.answered_ns || age(now_ns, one.answered_ns) < kBehindNs ||
        age(now_ns, one.since_ns) < patience_ns)
      continue;
    OwedAnswers &row = rows[one.row];
    row.since_ns = row.connections++ ? std::min(row.since_ns, one.since_ns) : one.since_ns;
  }
  return rows;
}

} // namespace doppel
