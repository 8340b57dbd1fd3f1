// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/attempts.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>

namespace doppel {
namespace {
constexpr uint64_t kBetweenNs = 2'000'000'000;
constexpr uint64_t kPatienceNs = 10'000'000'000;
constexpr unsigned kMostPorts = 16; // of a range: more are not asked

} // namespace

struct Attempts::Question {
  std::string key; // of Vitals::tried
  TargetConfig target;
  unsigned ports = 1;

  std::vector<TargetConfig> targets() const {
    std::vector<TargetConfig> all(ports, target);
    for (unsigned i = 0; i < ports; i++)
      all[i].port = static_cast<uint16_t>(target.port + i);
    return all;
  }

  // Of a range one port is enough, as one is for what clients find (judge_target()).
  bool has(Reached::Answer answer, const std::vector<Reached> &answers) const {
    const auto all = targets();
    return std::any_of(all.begin(), all.end(), [&](const TargetConfig &t) {
      const auto endpoint = endpoint_text(t.address, t.port);
      return std::any_of(answers.begin(), answers.end(), [&](const Reached &r) {
        return r.endpoint == endpoint && r.answer == answer && !r.other.is_set();
      });
    });
  }
};

Attempts::Attempts() = default;
Attempts::~Attempts() = default;

void Attempts::take_answers(uint64_t now_ns) {
  const bool over = round_->connections.wait(0) || now_ns - round_->begun_ns >= kPatienceNs;
  const auto answers = round_->connections.answers();
  for (const Question &q : round_->questions)
    if (q.has(Reached::Answer::accepts, answers))
      tried_[q.key] = {now_ns, true, false};
    else if (over)
      tried_[q.key] = {now_ns, false, q.has(Reached::Answer::refuses, answers)};
  if (over)
    round_.reset();
}

bool Attempts::wants_trying(const Vitals &v, const std::string &key) const {
  const uint64_t since = in_doubt_since(v, key);
  const auto last = tried_.find(key);
  if (!since || last == tried_.end())
    return since != 0;
  const Tried &t = last->second;
  return t.accepted ? t.at_ns < since : t.at_ns + kBetweenNs <= v.now_ns;
}

Status Attempts::begin(const Attached &attached, const Vitals &v) {
  std::vector<Question> questions;
  Config config;
  config.mappings.emplace_back();
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
      if (t >= row.n_targets || q.ports > kMostPorts)
        continue;
      for (const TargetConfig &one : q.targets())
        config.mappings.front().targets.push_back(one);
      questions.push_back(std::move(q));
    }
  if (!questions.empty())
    round_.emplace(Round{std::move(questions), Connects(config), v.now_ns});
  return Unit{};
}

Status Attempts::look(const Attached &attached, Vitals &v) {
  std::erase_if(tried_, [&](const auto &entry) { return !in_doubt_since(v, entry.first); });
  if (round_)
    take_answers(v.now_ns);
  if (!round_)
    TRY(begin(attached, v));
  v.tried = tried_;
  return Unit{};
}

} // namespace doppel
