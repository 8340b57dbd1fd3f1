// SPDX-License-Identifier: Apache-2.0
// A function for each line of criteria.def.
#include <algorithm>
#include <functional>

#include "userspace/migrate/lag.h"
#include "userspace/migrate/ready.h"
#include "userspace/migrate/verify.h"
#include "userspace/util/text.h"
#include "userspace/view/table.h"

namespace doppel::migrate {
namespace {
struct Figure {
  std::optional<double> value;
  std::string reason = {};
};

// One key of so many may be without a verdict.
constexpr uint64_t kMostMoving = 10;

double real(uint64_t n) { return static_cast<double>(n); }

std::string bytes(uint64_t n) { return human_bytes(static_cast<int64_t>(n)); }
std::string count(uint64_t n) { return human_count(static_cast<int64_t>(n)); }

uint64_t grown(uint64_t before, uint64_t after) { return after - std::min(after, before); }

bool is_missed(const Reason &r) { return !r.unwanted; }

// Before the switch no mirror leads back: who has the target's address runs there, and the target
// lacks what it writes.
bool is_missed_before_switch(const Reason &r) {
  return is_missed(r) || r.number == DP_EXCLUDED_loop;
}

// "target_timeout 3, store_full 2": what of these grew.
template <size_t N>
std::string reasons_that_grew(const Reason (&names)[N], const __u64 (&before)[N],
                              const __u64 (&after)[N], bool (*counts)(const Reason &) = is_missed) {
  std::string text;
  for (size_t i = 0; i < N; i++)
    if (counts(names[i]) && after[i] > before[i])
      text += (text.empty() ? "" : ", ") + std::string(names[i].name) + " " +
              bytes(after[i] - before[i]);
  return text;
}

// Excluded bytes that somebody misses.
uint64_t excluded(const dp_ledger &l) {
  return missing(l) - sum_of(l.lost) + l.excluded[DP_EXCLUDED_loop];
}

uint64_t delivered(const RowWindow &w) { return grown(w.before.delivered, w.after.delivered); }

Figure measure_mirror_problems(const MirrorWindow &w) {
  Figure f{0};
  for (const Problem &p : w.problems)
    if (p.kind != ProblemKind::note) {
      f.value = *f.value + 1;
      if (f.reason.empty())
        f.reason = p.what;
    }
  return f;
}

Figure measure_free_ports(const MirrorWindow &w) {
  if (!w.ports)
    return {std::nullopt, "the mirror has none"};
  return {real(w.ports_free) / real(w.ports), count(w.ports_free) + " of " + count(w.ports)};
}

Figure measure_free_store(const MirrorWindow &w) {
  if (!w.chunks)
    return {std::nullopt, "the mirror has none"};
  const uint64_t free = w.chunks - std::min(w.chunks, w.chunks_used);
  return {real(free) / real(w.chunks),
          bytes(free * DP_CHUNK) + " of " + bytes(uint64_t{w.chunks} * DP_CHUNK)};
}

Figure measure_delivered_share(const RowWindow &w) {
  const uint64_t good = delivered(w), bad = grown(missing(w.before), missing(w.after));
  if (!(good + bad))
    return {std::nullopt, w.after.in_flight > 0
                              ? "nothing was delivered in the window, and bytes wait"
                              : "nothing was sent in the window"};
  return {real(good) / real(good + bad), bytes(good) + " of " + bytes(good + bad)};
}

Figure measure_lost_bytes(const RowWindow &w) {
  return {real(grown(sum_of(w.before.lost), sum_of(w.after.lost))),
          reasons_that_grew(lost_reasons, w.before.lost, w.after.lost)};
}

Figure measure_excluded_bytes(const RowWindow &w) {
  return {real(grown(excluded(w.before), excluded(w.after))),
          reasons_that_grew(excluded_reasons, w.before.excluded, w.after.excluded,
                            is_missed_before_switch)};
}

Figure measure_missing_bytes(const RowWindow &w) {
  if (!w.since_absent.empty())
    return {std::nullopt, w.since_absent};
  const dp_ledger none{};
  const uint64_t bytes = grown(w.missing_at_since, missing(w.after));
  std::string reason;
  if (bytes) {
    reason = reasons_that_grew(lost_reasons, none.lost, w.after.lost);
    const std::string more = reasons_that_grew(excluded_reasons, none.excluded, w.after.excluded);
    reason += (reason.empty() || more.empty() ? "" : ", ") + more;
    if (w.missing_at_since)
      reason = "since the ledger of --since; since attach " + reason;
  }
  return {real(bytes), reason};
}

Figure measure_lag_ms(const RowWindow &w) {
  std::string reason;
  if (w.after.in_flight > 0 && !delivered(w))
    reason = "the target acknowledged nothing in the window";
  return {lag_ms(w.before, w.after, w.over_ns, w.now_ns), reason};
}

Figure measure_in_flight_bytes(const RowWindow &w) {
  return {real(static_cast<uint64_t>(std::max<int64_t>(w.after.in_flight, 0)))};
}

Figure measure_partial(const RowWindow &w) {
  std::string reason;
  if (!w.portion.is_whole())
    reason = "the target gets " + portion_text(w.portion) + " and " + why_unfit(w.portion);
  if (w.chooses_clients)
    reason += (reason.empty() ? "" : "; ") +
              std::string("the mapping's lists leave clients out: what they write and delete the "
                          "target lacks");
  return {reason.empty() ? 0.0 : 1.0, reason};
}

constexpr char kNoConverge[] = "the mapping does not converge";

Figure measure_unrepaired_ms(const RowWindow &w) {
  if (!w.converge)
    return {0, kNoConverge};
  if (!is_converging(*w.converge, w.now_ns))
    return {std::nullopt, "nothing converges at present: doppel status tells why"};
  return {real(unrepaired_ms(*w.converge, w.now_ns)), count(w.converge->waiting) + " keys wait"};
}

Figure measure_missed_keys(const RowWindow &w) {
  if (!w.converge)
    return {0, kNoConverge};
  if (!w.since_absent.empty())
    return {std::nullopt, w.since_absent};
  return {real(grown(w.missed_at_since, missed_keys(w.after, w.converge)))};
}

Figure measure_warmth(const PairWindow &w) {
  const uint64_t ours = w.source.hits + w.source.misses, theirs = w.target.hits + w.target.misses;
  const std::string seen = "the source hit " + count(w.source.hits) + " of " + count(ours) +
                           " gets, the target " + count(w.target.hits) + " of " + count(theirs);
  if (!ours)
    return {std::nullopt, "no gets in the window"};
  if (!w.source.hits)
    return {std::nullopt, "no get of the window hit on the source"};
  if (is_asked_by_others(w.source, w.target, w.late_gets))
    return {std::nullopt, seen + ": others ask the target as well, and their hits are not those of "
                                 "the source's clients"};
  return {warmth(w.source, w.target), seen};
}

Figure measure_coverage(const PairWindow &w) {
  if (!w.coverage)
    return {std::nullopt, w.coverage_absent};
  const Coverage &c = *w.coverage;
  if (c.moving > (c.compared + c.moving) / kMostMoving)
    return {std::nullopt,
            count(c.moving) + " of " + count(c.compared + c.moving) +
                " keys changed while they were looked at: whether they are equal nobody "
                "knows"};
  if (!c.compared)
    return {std::nullopt, "the source has no keys to compare"};
  return {wilson95(c.equal, c.compared, c.compared + c.moving + c.unseen).low,
          count(c.equal) + " of " + count(c.compared) + " keys are equal"};
}

Figure measure_only_on_target(const PairWindow &w) {
  if (!w.coverage)
    return {std::nullopt, w.coverage_absent};
  const Coverage &c = *w.coverage;
  const std::string seen = count(c.extra) + " of " + count(c.targets) + " keys";
  if (w.source_now.evictions)
    return {0, "not judged: what the source evicts stays on a larger target; " + seen};
  return {c.targets ? real(c.extra) / real(c.targets) : 0, seen};
}

Figure measure_target_evictions(const PairWindow &w) {
  const uint64_t more = grown(w.source.evictions, w.target.evictions);
  std::string reason;
  if (w.target.evictions)
    reason = count(w.target.evictions) + " on the target, " + count(w.source.evictions) +
             " on the source";
  return {real(more), reason};
}

Figure measure_target_memory(const PairWindow &w) {
  const auto usage = usage_of(w.target_now);
  if (!usage)
    return {std::nullopt, "the target does not tell its limit"};
  return {usage, bytes(w.target_now.bytes) + " of " + bytes(w.target_now.limit)};
}

// One of them is set.
struct Measurer {
  Figure (*mirror)(const MirrorWindow &) = nullptr;
  Figure (*row)(const RowWindow &) = nullptr;
  Figure (*pair)(const PairWindow &) = nullptr;
};

// In the order of all_criteria().
constexpr Measurer kMeasurers[] = {
#define DP_CRITERION(name, of, unit, bound, standard, help, remedy) {.of = measure_##name},
#include "userspace/migrate/criteria.def"
};

constexpr char kNoMirror[] = "attach a mirror, or leave its criteria out: --without-mirror";
constexpr char kNoRow[] = "look again: the next window is whole";
constexpr char kNoServer[] = "look whether the server is up, and look again";

struct Subject {
  std::string name;
  const std::string &absent;
  const char *remedy; // where it is absent
};

Finding finding(const Criterion &c, double limit, const Subject &subject,
                const std::function<Figure()> &measure) {
  Finding f{&c, subject.name, {}, limit, false, subject.absent, subject.remedy};
  if (!subject.absent.empty())
    return f;
  Figure figure = measure();
  f.value = figure.value;
  f.reason = std::move(figure.reason);
  f.ok = f.value && (c.at_least ? *f.value >= limit : *f.value <= limit);
  f.remedy = f.ok ? "" : c.remedy;
  return f;
}

} // namespace

std::vector<Finding> judge_ready(const ReadyWindow &w, const CriterionLimits &limits) {
  std::vector<Finding> all;
  const auto &no_rows = w.mirror.absent.empty() ? w.mirror.rows_absent : w.mirror.absent;
  for (size_t i = 0; i < std::size(kMeasurers); i++) {
    const Criterion &c = all_criteria()[i];
    const Measurer &m = kMeasurers[i];
    const double limit = limit_of(limits, c);
    if (m.mirror && !w.without_mirror)
      all.push_back(
          finding(c, limit, {"", w.mirror.absent, kNoMirror}, [&] { return m.mirror(w.mirror); }));
    if (m.row && !w.without_mirror) {
      for (const RowWindow &row : w.rows)
        all.push_back(finding(c, limit,
                              {row.name.mapping + " " + row.name.target, row.absent, kNoRow},
                              [&] { return m.row(row); }));
      if (w.rows.empty()) // what cannot be seen is not left out in silence
        all.push_back(finding(c, limit, {"", no_rows, kNoMirror}, [] { return Figure{}; }));
    }
    if (m.pair) {
      for (const PairWindow &pair : w.pairs)
        all.push_back(finding(c, limit, {pair.pair.text(), pair.absent, kNoServer},
                              [&] { return m.pair(pair); }));
      for (const Unpaired &u : w.unpaired)
        all.push_back(
            finding(c, limit, {u.subject, u.reason, u.remedy.c_str()}, [] { return Figure{}; }));
      if (w.pairs.empty() && w.unpaired.empty())
        all.push_back(finding(c, limit,
                              {"", "no pair of servers is known: of UDP there is none", kNoServer},
                              [] { return Figure{}; }));
    }
  }
  return all;
}

uint64_t missed_keys(const dp_ledger &ledger, const std::optional<dp_converge> &converge) {
  return ledger.event[DP_EVENT_key_missed] + (converge ? converge->missed + converge->failed : 0);
}

bool is_ready(const std::vector<Finding> &findings) {
  return !findings.empty() &&
         std::all_of(findings.begin(), findings.end(), [](const Finding &f) { return f.ok; });
}

namespace {
// Keys that were read for a mapping that converges.
uint64_t compared(const std::optional<dp_converge> &c) {
  return c ? c->equal + c->repaired + c->deleted + c->failed : 0;
}
} // namespace

std::vector<RowWindow> row_windows(const std::vector<RowName> &rows, const Counters &before,
                                   const Counters &after) {
  struct Found {
    const MappingCounters *mapping = nullptr;
    const dp_ledger *ledger = nullptr;
    Portion portion = {};
  };
  const auto find = [](const Counters &counters, const RowName &name) -> Found {
    for (const MappingCounters &m : counters.mappings)
      for (const TargetCounters &t : m.targets)
        if (m.name == name.mapping && t.target == name.target)
          return {&m, &t.sum, t.portion};
    return {};
  };
  const bool same = before.attached == after.attached && before.now_ns < after.now_ns;
  std::vector<RowWindow> windows;
  for (const RowName &name : rows) {
    RowWindow w;
    w.name = name;
    const Found found = find(after, name), was = find(before, name);
    const dp_ledger *then = was.ledger, *now = found.ledger;
    if (!now) {
      w.absent = "the mirror has no such row";
    } else if (!same || !then || was.mapping->since_ns != found.mapping->since_ns ||
               then->observed > now->observed) {
      w.absent = "the mirror, or this mapping of it, is newer than the window";
    } else {
      w.before = *then;
      w.after = *now;
      w.converge = found.mapping->converge;
      w.compared = grown(compared(was.mapping->converge), compared(found.mapping->converge));
      w.portion = found.portion;
      w.chooses_clients = found.mapping->chooses_clients;
      w.since = found.mapping->since;
      w.since_ns = found.mapping->since_ns;
      w.over_ns = after.now_ns - before.now_ns;
      w.now_ns = after.now_ns;
    }
    windows.push_back(std::move(w));
  }
  return windows;
}

} // namespace doppel::migrate
