// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/attempts.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>

#include "userspace/mirror/reach.h"

namespace doppel {
namespace {
constexpr unsigned kPatienceMs = 200;
constexpr uint64_t kBetweenNs = 2'000'000'000;
constexpr unsigned kMostPorts = 16; // of a range: more are not asked

struct Question {
  std::string key; // of Vitals::tried
  TargetConfig target;
  unsigned ports = 1;
};

bool accepts_all(const Question &q, const std::vector<Reached> &answers) {
  for (unsigned i = 0; i < q.ports; i++) {
    const auto endpoint = endpoint_text(q.target.address, static_cast<uint16_t>(q.target.port + i));
    if (std::none_of(answers.begin(), answers.end(), [&](const Reached &r) {
          return r.endpoint == endpoint && r.answer == Reached::Answer::accepts &&
                 !r.other.is_set();
        }))
      return false;
  }
  return true;
}

Config all_of(const std::vector<Question> &questions) {
  Config config;
  config.mappings.emplace_back();
  for (const Question &q : questions)
    for (unsigned i = 0; i < q.ports; i++) {
      TargetConfig t = q.target;
      t.port = static_cast<uint16_t>(t.port + i);
      config.mappings.front().targets.push_back(t);
    }
  return config;
}

bool wants_trying(const Vitals &v, const std::string &key) {
  const uint64_t since = in_doubt_since(v, key);
  const auto last = v.tried.find(key);
  if (!since || last == v.tried.end())
    return since != 0;
  const Tried &t = last->second;
  return t.accepted ? t.at_ns < since : t.at_ns + kBetweenNs <= v.now_ns;
}

} // namespace

Status try_targets(const Attached &attached, const Vitals *before, Vitals &v) {
  if (before)
    v.tried = before->tried;
  std::erase_if(v.tried, [&](const auto &entry) { return !in_doubt_since(v, entry.first); });
  std::vector<Question> questions;
  MapTable mappings;
  for (const NamedMapping &m : attached.meta.mappings)
    for (size_t t = 0; t < m.targets.size() && t < DP_MAX_TARGETS; t++) {
      Question q{target_key(m.name, m.targets[t]), {}, 1};
      if (!wants_trying(v, q.key))
        continue;
      if (!mappings.fd)
        mappings = TRY(open_table(attached.pins, "mappings", sizeof(dp_mapping)));
      dp_mapping row{};
      if (bpf_map_lookup_elem(mappings.fd.get(), &m.row, &row))
        return sys_error("map mappings", "cannot be read", errno);
      q.target.address = Address{row.target[t].address};
      q.target.port = row.target[t].port;
      q.ports = unsigned{row.ports} + 1;
      if (t < row.n_targets && q.ports <= kMostPorts)
        questions.push_back(std::move(q));
    }
  if (questions.empty())
    return Unit{};
  const auto answers = connect_to_targets(all_of(questions), kPatienceMs);
  for (const Question &q : questions)
    v.tried[q.key] = {v.now_ns, accepts_all(q, answers)};
  return Unit{};
}

} // namespace doppel
