// SPDX-License-Identifier: Apache-2.0
#include "userspace/migrate/top_model.h"

#include "userspace/migrate/lag.h"
#include "userspace/view/render.h"

namespace doppel::migrate {
namespace {
double real(uint64_t n) { return static_cast<double>(n); }

double a_second(uint64_t n, uint64_t over_ns) { return real(n) * 1e9 / real(over_ns); }

TopFigures figures(const ServerSample &now, const std::optional<ServerWindow> &window) {
  TopFigures f;
  f.usage = usage_of(now);
  f.connections = real(now.connections);
  f.items = real(now.items);
  f.bytes = real(now.bytes);
  f.limit = real(now.limit);
  if (now.answer_us)
    f.answer_us = real(*now.answer_us);
  if (!window)
    return f;
  f.hit_ratio = hit_ratio(*window);
  f.gets = real(window->gets);
  f.hits = real(window->hits);
  f.misses = real(window->misses);
  f.sets = real(window->sets);
  f.evictions = real(window->evictions);
  if (window->over_ns) {
    f.gets_s = a_second(window->gets, window->over_ns);
    f.sets_s = a_second(window->sets, window->over_ns);
    f.evictions_s = a_second(window->evictions, window->over_ns);
  }
  return f;
}

void add_to(std::optional<double> &sum, const std::optional<double> &more) {
  if (more)
    sum = sum.value_or(0) + *more;
}

} // namespace

const std::vector<TopColumn> &top_columns() {
  static const std::vector<TopColumn> list = {
#define DP_TOP_COLUMN(name, heading, kind, help)                                                   \
  {#name, heading, TopKind::kind, help, &TopFigures::name},
#include "userspace/migrate/top_columns.def"
  };
  return list;
}

TopFigures figures_of(const TopServer &s) {
  return s.away.empty() && s.now ? figures(*s.now, s.window) : TopFigures{};
}

TopFigures total_of(const std::vector<const TopServer *> &servers) {
  TopFigures sum;
  for (const TopServer *s : servers) {
    const TopFigures one = figures_of(*s);
    for (const TopColumn &c : top_columns())
      add_to(sum.*c.value, one.*c.value);
  }
  sum.answer_us.reset();
  sum.usage.reset();
  sum.hit_ratio.reset();
  if (sum.limit && *sum.limit > 0)
    sum.usage = sum.bytes.value_or(0) / *sum.limit;
  if (const double asked = sum.hits.value_or(0) + sum.misses.value_or(0); asked > 0)
    sum.hit_ratio = sum.hits.value_or(0) / asked;
  return sum;
}

TopFigures average_of(const std::vector<const TopServer *> &servers) {
  const TopFigures total = total_of(servers);
  TopFigures average;
  for (const TopColumn &c : top_columns()) {
    std::optional<double> sum;
    double known = 0;
    for (const TopServer *s : servers) {
      const auto one = figures_of(*s).*c.value;
      add_to(sum, one);
      known += one ? 1 : 0;
    }
    if (sum)
      average.*c.value = *sum / known;
  }
  average.usage = total.usage;
  average.hit_ratio = total.hit_ratio;
  return average;
}

TopFigures difference(const TopFigures &a, const TopFigures &b) {
  TopFigures d;
  for (const TopColumn &c : top_columns())
    if (a.*c.value && b.*c.value)
      d.*c.value = *(b.*c.value) - *(a.*c.value);
  return d;
}

std::vector<const TopServer *> of_side(const TopModel &model, const std::string &side) {
  std::vector<const TopServer *> list;
  for (const TopServer &s : model.servers)
    if (s.side == side)
      list.push_back(&s);
  return list;
}

std::optional<double> warmth_of(const TopServer &source, const TopServer &target) {
  if (!source.away.empty() || !target.away.empty() || !source.window || !target.window)
    return std::nullopt;
  return warmth(*source.window, *target.window);
}

std::vector<TopRow> rows_of(const TopModel &model) {
  std::vector<TopRow> rows;
  if (!model.counters)
    return rows;
  const Counters &c = *model.counters;
  const bool timed = c.over_ns && model.interval_s > 0;
  for (const MappingCounters &m : c.mappings)
    for (const TargetCounters &t : m.targets) {
      TopRow row{m.name, t.target, t.sum, {}, {}, completeness(t.sum), {}};
      if (timed && t.before.observed <= t.sum.observed && t.before.copied <= t.sum.copied) {
        row.bits_s = 8 * a_second(t.sum.observed - t.before.observed, c.over_ns);
        row.segments_s = a_second(t.sum.copied - t.before.copied, c.over_ns);
        row.lag_ms = lag_ms(t.before, t.sum, c.over_ns, c.now_ns);
      }
      rows.push_back(row);
    }
  return rows;
}

} // namespace doppel::migrate
