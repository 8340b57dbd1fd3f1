// SPDX-License-Identifier: Apache-2.0
// From what was seen of a mirror to what is wrong with it.
#include <algorithm>
#include <optional>

#include "userspace/util/text.h"
#include "userspace/view/judge_target.h"
#include "userspace/view/render.h"
#include "userspace/view/table.h"

namespace doppel {
namespace {
constexpr uint64_t kLossNs = 5 * kSecondNs;
constexpr uint64_t kLeftOutNs = 10 * kSecondNs;
// Per cent. One client, or one flow, gets 16 of 17 parts and not more (CLIENT_SHARE): 94.1.
constexpr uint64_t kNearlyFull = 94, kFullNoMore = 90;

std::string name_of(const TargetHealth &t) {
  return "target " + t.target + " of mapping " + t.mapping;
}

// "; it took something last 12.3 s ago"
std::string last_taken(const TargetHealth &t) {
  return t.quiet_ms ? "; it took something last " + human_ms(*t.quiet_ms) + " ago"
                    : "; it has never taken anything";
}

// ", the last time 1.3 s ago"
std::string last_asked(const TargetHealth &t, const Vitals &v) {
  const auto tried = v.tried.find(target_key(t.mapping, t.target));
  const uint64_t at_ns =
      std::max<uint64_t>(row_of(v.counters, t.mapping, t.target)->last.refused,
                         tried != v.tried.end() && tried->second.refused ? tried->second.at_ns : 0);
  return ", the last time " + human_ms(age(v.now_ns, at_ns) / 1'000'000) + " ago";
}

// All of its connections, or some of them, which comes first where they do not ask at the same
// time. All: it has answered nobody since, as those that were answered may be closed by now.
std::string hung_text(const TargetHealth &t, const Vitals &v, int &grade) {
  const auto owed = v.owed.find(target_key(t.mapping, t.target));
  const dp_ledger &l = *row_of(v.counters, t.mapping, t.target);
  const auto open = static_cast<uint64_t>(std::max<int64_t>(l.open, 0));
  grade = owed == v.owed.end() ||
          (owed->second.connections >= open &&
           age(v.now_ns, std::max<uint64_t>(l.last.answered, v.attached_ns)) > kTargetPatienceNs);
  if (grade)
    return name_of(t) + " takes requests and answers none, while the source answers";
  return human_count(owed->second.connections) + " of " +
         human_count(std::max(open, owed->second.connections)) + " connections to " + name_of(t) +
         " wait for an answer, one of them for " +
         human_ms(age(v.now_ns, owed->second.since_ns) / 1'000'000) +
         ", while the source has answered on them";
}

bool keeps_clients(const TargetHealth &t, const Counters &counters) {
  for (const MappingCounters &m : counters.mappings)
    for (const TargetCounters &one : m.targets)
      if (m.name == t.mapping && one.target == t.target)
        return one.keep_client;
  return false;
}

void judge_row(const TargetHealth &t, const Vitals &v, std::vector<Problem> &problems) {
  Problem p;
  p.since = t.since;
  const std::string waits = human_bytes(static_cast<int64_t>(t.waits)) + " wait for it";
  const dp_ledger &l = *row_of(v.counters, t.mapping, t.target);
  switch (t.state) {
  case TargetState::refusing:
    p.kind = ProblemKind::refusing;
    p.what = name_of(t) + " refuses connections" + last_asked(t, v) + last_taken(t);
    break;
  case TargetState::silent:
    p.kind = ProblemKind::silent;
    p.what = name_of(t) +
             (l.last.shut > took(l)
                  ? " takes nothing: it said " + human_ms(age(v.now_ns, l.last.shut) / 1'000'000) +
                        " ago that its window is shut; "
                  : " acknowledges nothing: ") +
             waits + last_taken(t);
    if (keeps_clients(t, v.counters))
      p.hint =
          "copies have their clients' addresses: on the target, `ip route get CLIENT` must lead "
          "to this host";
    break;
  case TargetState::hung:
    p.kind = ProblemKind::hung;
    p.what = hung_text(t, v, p.grade) + "; " + waits;
    break;
  case TargetState::slow:
    p.kind = ProblemKind::slow;
    p.what = name_of(t) + " is slow: " + waits + ", which takes it more than a second";
    break;
  case TargetState::untried:
  case TargetState::up:
    return;
  }
  p.key = std::string(help_of(p.kind).name) + " " + t.mapping + " " + t.target;
  problems.push_back(std::move(p));
}

void judge_loss(const TargetHealth &t, const Looks &looks, std::vector<Problem> &problems) {
  const Vitals &v = looks.back();
  const auto loss = last_loss(*row_of(v.counters, t.mapping, t.target));
  if (!loss || age(v.now_ns, loss->at_ns) >= kLossNs)
    return;
  Problem p;
  p.kind = ProblemKind::loss;
  p.what = "bytes for " + name_of(t) + " are being lost: " + loss->reason + ", " +
           human_bytes(static_cast<int64_t>(t.lost)) + " in all";
  p.key = "loss " + t.mapping + " " + t.target;
  problems.push_back(std::move(p));
}

// How much that grew within the last `over_ns`, as far as somebody has looked.
template <class Value>
uint64_t grown(const Looks &looks, uint64_t over_ns, const std::string &mapping,
               const std::string &target, const Value &value) {
  const Vitals &last = looks.back();
  const dp_ledger *now = row_of(last.counters, mapping, target);
  for (const Vitals &v : looks) {
    const dp_ledger *then = row_of(v.counters, mapping, target);
    if (now && then && age(last.now_ns, v.now_ns) <= over_ns)
      return value(*now) - std::min<uint64_t>(value(*now), value(*then));
  }
  return 0;
}

// When bytes were excluded so last, if that was within `over_ns`: one look is enough, and what
// comes seldom is told as well.
std::optional<uint64_t> excluded_lately(const TargetHealth &t, const Vitals &v, dp_excluded reason,
                                        uint64_t over_ns) {
  const uint64_t at_ns = row_of(v.counters, t.mapping, t.target)->last.excluded[reason];
  if (!at_ns || age(v.now_ns, at_ns) >= over_ns)
    return {};
  return at_ns;
}

// Nothing is lost by that: the ledger alone would tell.
void judge_unjoinable(const TargetHealth &t, const Looks &looks, std::vector<Problem> &problems) {
  const auto excluded = [](const dp_ledger &l) -> uint64_t {
    return l.excluded[DP_EXCLUDED_unjoinable];
  };
  const Vitals &v = looks.back();
  const uint64_t grew = grown(looks, kMinuteNs, t.mapping, t.target, excluded);
  const auto at_ns = excluded_lately(t, v, DP_EXCLUDED_unjoinable, kMinuteNs);
  if (!grew && !at_ns)
    return;
  const uint64_t bytes = grew ? grew : excluded(*row_of(v.counters, t.mapping, t.target));
  Problem p;
  p.kind = ProblemKind::loss;
  p.what = name_of(t) + " ends the connections that join in mid-stream: " +
           human_bytes(static_cast<int64_t>(bytes)) + " are excluded as unjoinable" +
           (grew ? " within a minute"
                 : " in all, the last " + human_ms(age(v.now_ns, *at_ns) / 1'000'000) + " ago");
  p.hint = "has the target room for as many connections as the source (memcached -c), and does a "
           "firewall on the way know them? Each is tried again after a minute; for a protocol that "
           "cannot be joined \"join\": \"never\" leaves them alone";
  p.key = "unjoinable " + t.mapping + " " + t.target;
  problems.push_back(std::move(p));
}

// Fewer may be a client's own mistakes, to which the source answers in the same way.
constexpr uint64_t kSomeErrors = 3;

uint64_t errors_of(const dp_ledger &l) { return l.event[DP_EVENT_error_answer]; }

// Errors since the target has answered anything else, as far as somebody has looked.
uint64_t errors_in_a_row(const TargetHealth &t, const Looks &looks, const dp_ledger &now) {
  if (!now.last.served)
    return errors_of(now);
  for (const Vitals &v : looks)
    if (const dp_ledger *then = row_of(v.counters, t.mapping, t.target);
        then && then->last.served == now.last.served)
      return errors_of(now) - std::min(errors_of(now), errors_of(*then));
  return 0;
}

// Between two requests that it serves, one of a client's mistakes may be the last for a moment.
bool answers_nothing_else(const TargetHealth &t, const Looks &looks, const dp_ledger &l) {
  if (errors_of(l) < kSomeErrors || l.last.erred <= l.last.served ||
      age(looks.back().now_ns, l.last.erred) >= kMinuteNs)
    return false;
  return errors_in_a_row(t, looks, l) >= kSomeErrors ||
         age(l.last.erred, l.last.served) >= kLeftOutNs;
}

void judge_errors(const TargetHealth &t, const Looks &looks, std::vector<Problem> &problems) {
  const auto recent = [&](const auto &value) {
    return grown(looks, kLeftOutNs, t.mapping, t.target, value);
  };
  const dp_ledger &l = *row_of(looks.back().counters, t.mapping, t.target);
  const uint64_t errors = recent(errors_of);
  const uint64_t answers = recent([](const dp_ledger &a) -> uint64_t { return a.answers; });
  const bool many = errors >= kSomeErrors && errors * 10 >= answers;
  if (!many && !answers_nothing_else(t, looks, l))
    return;
  Problem p;
  p.kind = ProblemKind::errors;
  p.what = name_of(t) + " answers with errors: " +
           (many ? std::to_string(errors) + " of the last " + std::to_string(answers) + " answers"
            : l.last.served ? "nothing else for " +
                                  human_ms(age(looks.back().now_ns, l.last.served) / 1'000'000)
                            : "it has never answered anything else");
  p.key = std::string(help_of(p.kind).name) + " " + t.mapping + " " + t.target;
  problems.push_back(std::move(p));
}

// Of what was asked, more than a hundredth is left out.
bool is_much(uint64_t left_out, uint64_t observed) { return left_out > observed / 100; }

// What the ledger alone would tell: clients are served, and the target misses what they say. A
// mirror that begins finds connections in the middle of a request, a detach leaves out all, and
// what cannot join, goes round, or whose target has just failed, has a sentence of its own.
bool is_told_apart(const Reason &r, const Vitals &v) {
  for (const uint32_t number :
       {DP_EXCLUDED_paused, DP_EXCLUDED_unjoinable, DP_EXCLUDED_backoff, DP_EXCLUDED_hops})
    if (r.number == number)
      return true;
  if (r.unwanted)
    return true;
  return r.number == DP_EXCLUDED_not_joined && age(v.now_ns, v.attached_ns) < kMinuteNs;
}

// The last that clients said was left out, and nothing was delivered since: seldom enough that two
// looks may see none of it.
const Reason *all_is_left_out(const dp_ledger &l, const Vitals &v) {
  const Reason *last = nullptr;
  uint64_t at_ns = l.last.acknowledged;
  for (const Reason &r : excluded_reasons)
    if (l.last.excluded[r.number] > at_ns && !is_told_apart(r, v)) {
      at_ns = l.last.excluded[r.number];
      last = &r;
    }
  return last && age(v.now_ns, at_ns) < kLeftOutNs ? last : nullptr;
}

void judge_left_out(const TargetHealth &t, const Looks &looks, std::vector<Problem> &problems) {
  const auto recent = [&](const auto &value) {
    return grown(looks, kLeftOutNs, t.mapping, t.target, value);
  };
  uint64_t sum = 0, most = 0, unwanted = 0;
  const Reason *reason = nullptr;
  for (const Reason &r : excluded_reasons) {
    const uint64_t bytes =
        recent([&](const dp_ledger &l) -> uint64_t { return l.excluded[r.number]; });
    unwanted += r.unwanted ? bytes : 0;
    if (is_told_apart(r, looks.back()))
      continue;
    sum += bytes;
    if (bytes > most) {
      most = bytes;
      reason = &r;
    }
  }
  const uint64_t all = recent([](const dp_ledger &l) -> uint64_t { return l.observed; });
  const uint64_t observed = all - std::min(all, unwanted);
  const bool much = reason && is_much(sum, observed);
  if (!much)
    reason = all_is_left_out(*row_of(looks.back().counters, t.mapping, t.target), looks.back());
  if (!reason)
    return;
  Problem p;
  p.kind = ProblemKind::left_out;
  p.what = (much ? human_bytes(static_cast<int64_t>(sum)) + " of " +
                       human_bytes(static_cast<int64_t>(observed)) + " that " + name_of(t) +
                       " should have got within ten seconds are left out, most of them as "
                 : "what " + name_of(t) + " should have got last is left out, as ") +
           reason->name + ": " + reason->help;
  p.key = std::string(help_of(p.kind).name) + " " + t.mapping + " " + t.target;
  problems.push_back(std::move(p));
}

// Two hosts that mirror to each other are well, and so see the same as one whose clients run on the
// target's host: nothing but the address tells who speaks.
void judge_loop(const TargetHealth &t, const Vitals &v, std::vector<Problem> &problems) {
  const auto at_ns = excluded_lately(t, v, DP_EXCLUDED_loop, kLeftOutNs);
  if (!at_ns)
    return;
  const dp_ledger &l = *row_of(v.counters, t.mapping, t.target);
  problems.push_back(
      {ProblemKind::note,
       human_bytes(static_cast<int64_t>(l.excluded[DP_EXCLUDED_loop])) + " of mapping " +
           t.mapping + ", the last " + human_ms(age(v.now_ns, *at_ns) / 1'000'000) +
           " ago, came from the address of its own target " + t.target +
           " and are taken for what that one mirrors back: clients that run there are not mirrored",
       {},
       0,
       "loop " + t.mapping + " " + t.target});
}

// However little it is: each request that ends so has gone round dozens of times.
void judge_ring(const TargetHealth &t, const Vitals &v, std::vector<Problem> &problems) {
  const bool back = excluded_lately(t, v, DP_EXCLUDED_ring, kLeftOutNs).has_value();
  if (!back && !excluded_lately(t, v, DP_EXCLUDED_hops, kLeftOutNs))
    return;
  Problem p;
  p.kind = ProblemKind::left_out;
  const char *how =
      back ? " come back to this host, which has mirrored them: hosts mirror to each "
             "other in a ring, and the source executes each request a second time"
           : " come with their time to live (TTL) used up: either hosts mirror to each "
             "other in a ring, where each of them executes every request several "
             "times, or clients send with a TTL of 1";
  p.what = "requests of mapping " + t.mapping + how;
  p.hint = back ? "take one mapping of the ring away: doppel counters tells under ring whether it "
                  "goes on"
                : "take one mapping of the ring away: doppel counters tells under hops whether it "
                  "goes on";
  p.key = "ring " + t.mapping;
  problems.push_back(std::move(p));
}

// So many within ten seconds, and as many in the ten before: a service that was killed is no such.
constexpr uint64_t kStrayPackets = 20;

// The service has moved from this host's sockets while the mirror ran. Of one that never was there
// find_blindness() tells.
void judge_strays(const TargetHealth &t, const Looks &looks, std::vector<Problem> &problems) {
  const auto within = [&](uint64_t over_ns, const auto &value) {
    return grown(looks, over_ns, t.mapping, t.target, value);
  };
  const auto strays = [](const dp_ledger &l) -> uint64_t { return l.event[DP_EVENT_no_socket]; };
  const auto observed = [](const dp_ledger &l) -> uint64_t { return l.observed; };
  const uint64_t late = within(kLeftOutNs, strays), all = within(2 * kLeftOutNs, strays);
  if (!observed(*row_of(looks.back().counters, t.mapping, t.target)) || late < kStrayPackets ||
      all - late < kStrayPackets || within(2 * kLeftOutNs, observed))
    return;
  Problem p;
  p.kind = ProblemKind::blind;
  p.key = "strays " + t.mapping;
  if (std::any_of(problems.begin(), problems.end(),
                  [&](const Problem &other) { return other.key == p.key; }))
    return; // of its other target
  p.what = "mapping " + t.mapping + ": " + std::to_string(late) +
           " packets within ten seconds that no socket of this host takes, and no request that "
           "one does: has the service moved behind DNAT, or to another host?";
  p.hint = "behind DNAT, load nf_conntrack, detach, and attach again as root; where this host only "
           "passes requests on, say \"promiscuous\"";
  problems.push_back(std::move(p));
}

// Told as long as it is so: who looks at a mirror need not be who configured it.
void judge_portions(const Counters &c, std::vector<Problem> &problems) {
  for (const MappingCounters &m : c.mappings)
    for (const TargetCounters &t : m.targets)
      if (!t.portion.is_whole())
        problems.push_back({ProblemKind::note,
                            "target " + t.target + " of mapping " + m.name + " gets " +
                                portion_text(t.portion) + " and " + why_unfit(t.portion),
                            {},
                            0,
                            "portion " + m.name + " " + t.target});
}

void judge_device(const DeviceVitals &d, std::vector<Problem> &problems) {
  Problem p;
  const std::string name = d.now_called.empty() ? d.name : d.now_called;
  if (!d.now_called.empty())
    problems.push_back(
        {ProblemKind::note,
         "device " + d.name + " was renamed to " + d.now_called + ": its capture goes on",
         "name it " + d.now_called +
             " in the configuration: the next attach or "
             "reload looks for that name",
         0,
         {}});
  p.kind = ProblemKind::device;
  if (!d.present) {
    p.what = "device " + d.name + " is gone: nothing is captured on it until it is back";
    p.hint = "where doppel run keeps the mirror, it captures a new device of that name; else "
             "doppel detach, then attach again";
  } else if (!d.up) { // as the plan says it: one problem
    p.what = "device " + name + " is down: nothing is captured until it is up";
    p.hint = "ip link set " + name + " up";
  } else if (!d.carrier) {
    p.what = "device " + name + " has no carrier: nothing is captured until it has";
    p.hint = "look at its cable, or at the other end of the link";
  } else {
    return;
  }
  problems.push_back(std::move(p));
}

void judge_pool(ProblemKind kind, uint64_t used, uint64_t total, const std::string &what,
                const std::vector<Problem> &before, std::vector<Problem> &problems) {
  Problem p;
  p.kind = kind;
  p.key = help_of(kind).name;
  const bool was =
      std::any_of(before.begin(), before.end(), [&](const Problem &b) { return b.id() == p.id(); });
  if (!total || used * 100 < total * (was ? kFullNoMore : kNearlyFull))
    return;
  p.what = what + " is " + std::to_string(used * 100 / total) + " % full";
  problems.push_back(std::move(p));
}

// Who breaks for want of room leaves some: between two breaks the store is not quite full.
void judge_full_store(const Vitals &v, std::vector<Problem> &problems) {
  uint64_t full_ns = 0;
  each_row(v.counters, [&](const std::string &, const std::string &, const dp_ledger &l) {
    full_ns = std::max<uint64_t>(full_ns, l.last.lost[DP_LOST_store_full]);
  });
  if (full_ns && age(v.now_ns, full_ns) < kLossNs)
    problems.push_back({ProblemKind::store,
                        "the store is full: connections lose what is in it",
                        {},
                        0,
                        help_of(ProblemKind::store).name});
}

void judge_pools(const Vitals &v, const std::vector<Problem> &before,
                 std::vector<Problem> &problems) {
  const Counters &c = v.counters;
  judge_full_store(v, problems);
  int64_t flows = 0;
  each_row(c, [&](const std::string &, const std::string &, const dp_ledger &l) {
    flows += l.open + l.waiting;
  });
  judge_pool(ProblemKind::store, c.chunks_used, c.chunks, "the store", before, problems);
  judge_pool(ProblemKind::ports, c.ports - c.ports_free, c.ports, "the range of shadow ports",
             before, problems);
  judge_pool(ProblemKind::flows, static_cast<uint64_t>(std::max<int64_t>(flows, 0)), v.flow_rows,
             "the flow table", before, problems);
}

std::vector<TargetHealth> targets_of(const Looks &looks, uint64_t span_ns) {
  std::vector<TargetHealth> list;
  const Vitals &v = looks.back();
  each_row(v.counters,
           [&](const std::string &mapping, const std::string &target, const dp_ledger &l) {
             TargetHealth t;
             t.mapping = mapping;
             t.target = target;
             const Verdict verdict = judge_target(looks, mapping, target, span_ns);
             t.state = verdict.state;
             if (verdict.since_ns)
               t.since = unix_time(verdict.since_ns, v.now_ns, v.now);
             t.waits = static_cast<uint64_t>(std::max<int64_t>(l.in_flight, 0));
             if (took(l))
               t.quiet_ms = age(v.now_ns, took(l)) / 1'000'000;
             t.lost = sum_of(l.lost);
             if (const auto loss = last_loss(l)) {
               t.lost_at = unix_time(loss->at_ns, v.now_ns, v.now);
               t.lost_reason = loss->reason;
             }
             list.push_back(std::move(t));
           });
  return list;
}

} // namespace

std::vector<Problem> judge(const Looks &looks, const std::vector<Problem> &before) {
  std::vector<Problem> problems;
  const Vitals &v = looks.back();
  for (const DeviceVitals &d : v.devices)
    judge_device(d, problems);
  if (v.paused)
    problems.push_back({ProblemKind::paused,
                        "the mirror is paused, no new connection is mirrored: a detach is under "
                        "way, or was interrupted",
                        {},
                        0,
                        "paused"});
  for (const TargetHealth &t : judge_targets(looks)) {
    judge_row(t, v, problems);
    judge_errors(t, looks, problems);
    judge_loss(t, looks, problems);
    judge_unjoinable(t, looks, problems);
    judge_left_out(t, looks, problems);
    judge_strays(t, looks, problems);
    judge_ring(t, v, problems);
    judge_loop(t, v, problems);
  }
  judge_pools(v, before, problems);
  judge_portions(v.counters, problems);
  for (Problem &p : problems)
    if (p.hint.empty())
      p.hint = help_of(p.kind).hint;
  return in_order(std::move(problems));
}

bool wants_another_look(const Looks &looks, bool waits) {
  if (age(looks.back().now_ns, looks.front().now_ns) >= kLookNs)
    return false;
  if (waits)
    return true;
  bool much = false;
  each_row(looks.back().counters,
           [&](const std::string &, const std::string &, const dp_ledger &l) {
             much |= is_much(missing(l) - sum_of(l.lost), l.observed);
           });
  if (much)
    return true;
  const auto seen = targets_of(looks, kLookNs), at_once = targets_of(looks, 0);
  for (size_t i = 0; i < seen.size(); i++)
    if (seen[i].state != at_once[i].state)
      return true;
  return false;
}

std::vector<TargetHealth> judge_targets(const Looks &looks) { return targets_of(looks, kLookNs); }

uint64_t lost_in_a_minute(const Looks &looks, const std::string &mapping,
                          const std::string &target) {
  return grown(looks, kMinuteNs, mapping, target,
               [](const dp_ledger &l) { return sum_of(l.lost); });
}

} // namespace doppel
