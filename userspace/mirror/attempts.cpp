// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/attempts.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace doppel {
namespace {
constexpr uint64_t kBetweenNs = 2'000'000'000;
constexpr uint64_t kPatienceNs = 10'000'000'000;
constexpr unsigned kPorts = 16; // of a range, at once
constexpr size_t kSockets = 256;

} // namespace

struct Attempts::One {
  One(const Address &address, uint16_t port, unsigned ports, uint64_t now_ns)
      : target{address, port, {}}, ports(ports), sockets(std::min(ports, kPorts)), begun_ns(now_ns),
        connections(these()) {}

  TargetConfig target;                // and its first port
  unsigned ports, sockets, first = 0; // of those that are asked now, from there
  uint64_t begun_ns;                  // CLOCK_MONOTONIC
  bool refused = false;
  Connects connections;

  std::vector<TargetConfig> these() const {
    std::vector<TargetConfig> all(std::min(sockets, ports - first), target);
    for (unsigned i = 0; i < all.size(); i++)
      all[i].port = static_cast<uint16_t>(target.port + first + i);
    return all;
  }

  // The others of a range, if there are any.
  bool go_on(uint64_t now_ns) {
    first += sockets;
    if (first >= ports)
      return false;
    begun_ns = now_ns;
    connections = Connects(these());
    return true;
  }

  bool has(Reached::Answer answer) {
    const auto all = connections.answers();
    return std::any_of(all.begin(), all.end(),
                       [&](const Reached &r) { return r.answer == answer && !r.other.is_set(); });
  }
};

Attempts::Attempts() = default;
Attempts::~Attempts() = default;

void Attempts::take_answers(uint64_t now_ns) {
  for (auto at = open_.begin(); at != open_.end();) {
    auto &[key, one] = *at;
    const bool answered = one.connections.wait(0) || now_ns - one.begun_ns >= kPatienceNs;
    const bool accepts = one.has(Reached::Answer::accepts);
    one.refused |= one.has(Reached::Answer::refuses);
    const bool over = answered && (accepts || !one.go_on(now_ns));
    if (accepts || over)
      tried_[key] = {now_ns, accepts, !accepts && one.refused};
    sockets_ -= over ? one.sockets : 0;
    at = over ? open_.erase(at) : std::next(at);
  }
}

bool Attempts::wants_trying(const Vitals &v, const std::string &key) const {
  const uint64_t since = in_doubt_since(v, key);
  if (!since || open_.contains(key))
    return false;
  const auto last = tried_.find(key);
  if (last == tried_.end())
    return true;
  const Tried &t = last->second;
  return t.accepted ? t.at_ns < since : t.at_ns + kBetweenNs <= v.now_ns;
}

Status Attempts::begin(const Attached &attached, const Vitals &v) {
  struct Wanted {
    std::string key;
    uint32_t row;
    size_t target;
  };
  std::vector<Wanted> all;
  for (const NamedMapping &m : attached.meta.mappings)
    for (size_t t = 0; t < m.targets.size() && t < DP_MAX_TARGETS; t++)
      if (const auto key = target_key(m.name, m.targets[t]); wants_trying(v, key))
        all.push_back({key, m.row, t});
  if (all.empty())
    return Unit{};
  std::sort(all.begin(), all.end(), [](const Wanted &a, const Wanted &b) { return a.key < b.key; });
  // In turn: where there are more of them than sockets, each has its look.
  std::rotate(all.begin(),
              std::find_if(all.begin(), all.end(), [&](const Wanted &w) { return w.key > after_; }),
              all.end());
  const auto mappings =
      TRY(open_table(attached.pins, "mappings", sizeof(dp_mapping), Access::read));
  for (const Wanted &w : all) {
    dp_mapping row{};
    if (bpf_map_lookup_elem(mappings.fd.get(), &w.row, &row))
      return sys_error("map mappings", "cannot be read", errno);
    // A connection tells nothing of datagrams.
    if (w.target >= row.n_targets || (row.flags & DP_MAP_UDP))
      continue;
    const unsigned ports = unsigned{row.ports} + 1, n = std::min(ports, kPorts);
    if (sockets_ + n > kSockets)
      break;
    const dp_target &target = row.target[w.target];
    open_.emplace(w.key, One(Address{target.address}, target.port, ports, v.now_ns));
    sockets_ += n;
    after_ = w.key;
  }
  return Unit{};
}

Status Attempts::look(const Attached &attached, Vitals &v) {
  std::erase_if(tried_, [&](const auto &entry) { return !in_doubt_since(v, entry.first); });
  take_answers(v.now_ns);
  TRY(begin(attached, v));
  v.tried = tried_;
  return Unit{};
}

} // namespace doppel
