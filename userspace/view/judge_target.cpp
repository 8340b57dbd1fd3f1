// SPDX-License-Identifier: Apache-2.0
#include "userspace/view/judge_target.h"

#include <algorithm>

namespace doppel {
namespace {
// As long as a flow stays away from a target that refused it, which is backoff's longest: a range
// of ports has one row, and a process behind one of them may refuse while the others answer.
constexpr uint64_t kRefusedNs = 5 * kSecondNs;
constexpr uint64_t kWindowNs = 5 * kSecondNs; // looks of so long are held against each other
constexpr int64_t kBacklog = 16384; // bytes; less than that is no backlog, however slow it goes

// One row over the looks of the last kWindowNs.
struct Course {
  uint64_t span_ns = 0;
  bool waits = true;           // bytes wait at each look, and nothing was acknowledged between them
  bool unanswered = true;      // no answer came between them
  bool owed = true;            // at each look the source had answered what the target had not
  int64_t backlog = INT64_MAX; // the least that waited
  uint64_t delivered = 0;      // bytes, from the first look to the last
};

Course course_of(const Looks &looks, const std::string &mapping, const std::string &target) {
  Course c;
  const Vitals &last = looks.back();
  const dp_ledger &now = *row_of(last.counters, mapping, target);
  const auto is_in_window = [&](const Vitals &v) { return age(last.now_ns, v.now_ns) < kWindowNs; };
  auto first = std::find_if(looks.begin(), looks.end(), is_in_window);
  // From one look before the window on where those in it are too few: they may have waited for
  // others' work.
  if (first != looks.begin() && age(last.now_ns, first->now_ns) < kLookNs)
    --first;
  for (auto at = first; at != looks.end(); ++at) {
    const Vitals &v = *at;
    const dp_ledger *l = row_of(v.counters, mapping, target);
    if (!l)
      continue;
    c.span_ns = std::max(c.span_ns, age(last.now_ns, v.now_ns));
    c.waits &= l->in_flight > 0 && l->delivered == now.delivered;
    c.unanswered &= l->last.answered == now.last.answered;
    c.owed &= l->last.source_answered > now.last.answered;
    c.backlog = std::min<int64_t>(c.backlog, l->in_flight);
    c.delivered =
        std::max<uint64_t>(c.delivered, now.delivered - std::min(now.delivered, l->delivered));
  }
  return c;
}

// When a connection of this host's own was accepted; 0: it was not.
uint64_t accepted(const Vitals &v, const std::string &mapping, const std::string &target) {
  const auto tried = v.tried.find(target_key(mapping, target));
  return tried != v.tried.end() && tried->second.accepted ? tried->second.at_ns : 0;
}

} // namespace

const dp_ledger *row_of(const Counters &counters, const std::string &mapping,
                        const std::string &target) {
  for (const MappingCounters &m : counters.mappings)
    for (const TargetCounters &t : m.targets)
      if (m.name == mapping && t.target == target)
        return &t.sum;
  return nullptr;
}

uint64_t took(const dp_ledger &l) { return std::max(l.last.acknowledged, l.last.taken); }

Verdict judge_target(const Looks &looks, const std::string &mapping, const std::string &target,
                     uint64_t span_ns) {
  const Vitals &v = looks.back();
  const dp_ledger &l = *row_of(v.counters, mapping, target);
  const uint64_t good = took(l), now = v.now_ns;
  const uint64_t back = std::max(good, accepted(v, mapping, target));
  if (l.last.refused && (l.last.refused > back || age(now, l.last.refused) < kRefusedNs))
    return {TargetState::refusing, l.last.refused > good ? good : l.last.refused};
  const Course c = course_of(looks, mapping, target);
  const bool seen = c.span_ns >= span_ns;
  const bool stuck = (seen && c.waits) || l.last.gave_up > back;
  if (stuck && age(now, std::max(good, v.attached_ns)) > kTargetPatienceNs)
    return {TargetState::silent, std::max(good, v.attached_ns)};
  // Whose connections are gone owes nothing any more. One that has never answered owes as well.
  const uint64_t answered = std::max<uint64_t>(l.last.answered, v.attached_ns);
  if (seen && c.unanswered && c.owed && l.open > 0 && good > l.last.answered &&
      age(now, answered) > kTargetPatienceNs)
    return {TargetState::hung, answered};
  // It goes on to end what it is asked without a word: one that is killed does that once.
  if (l.last.unanswered > answered + kTargetPatienceNs)
    return {TargetState::hung, answered};
  // At this pace what waits takes a second and more.
  if (seen && c.backlog >= kBacklog &&
      static_cast<double>(c.backlog) * static_cast<double>(c.span_ns) >=
          static_cast<double>(c.delivered) * static_cast<double>(kSecondNs))
    return {TargetState::slow, 0};
  // Beside others that are answered.
  if (const auto owed = v.owed.find(target_key(mapping, target)); owed != v.owed.end())
    return {TargetState::hung, owed->second.since_ns};
  return {good ? TargetState::up : TargetState::untried, 0};
}

std::string target_key(const std::string &mapping, const std::string &target) {
  return mapping + " " + target;
}

uint64_t in_doubt_since(const Vitals &v, const std::string &key) {
  uint64_t since = 0;
  each_row(v.counters,
           [&](const std::string &mapping, const std::string &target, const dp_ledger &l) {
             const uint64_t failed = std::max(l.last.refused, l.last.gave_up);
             if (target_key(mapping, target) == key && failed > took(l))
               since = failed;
           });
  return since;
}

const char *state_name(TargetState state) {
  constexpr const char *names[] = {"untried", "up", "slow", "hung", "silent", "refusing"};
  return names[static_cast<size_t>(state)];
}

} // namespace doppel
