// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/ledger.h"

#include <sstream>

namespace doppel::bpftest {

namespace {

struct Reason {
  int number;
  const char *name;
};

constexpr Reason kLost[] = {
#define DP_LOST(number, name, help) {number, "lost." #name},
#include "doppel/reasons.def"
};
constexpr Reason kExcluded[] = {
#define DP_EXCLUDED(number, name, help) {number, "excluded." #name},
#include "doppel/reasons.def"
};
constexpr Reason kEvents[] = {
#define DP_EVENT(number, name, help) {number, "event." #name},
#include "doppel/reasons.def"
};

struct Counter {
  enum Group { bytes, flows, packets, use } group;
  const char *name;
  bool gauge;
  int64_t (*value)(const dp_ledger &l);
};

constexpr bool total = false, gauge = true;
constexpr Counter kCounters[] = {
#define DP_COUNTER(group, name, kind, help)                                                        \
  {Counter::group, #name, kind, [](const dp_ledger &l) { return static_cast<int64_t>(l.name); }},
#include "doppel/counters.def"
};

bool is_counter(const std::string &name, Counter::Group group) {
  for (const Counter &c : kCounters)
    if (c.group == group && c.name == name)
      return true;
  return false;
}

bool starts_with_any(const std::string &name, std::initializer_list<const char *> prefixes) {
  for (const char *p : prefixes)
    if (name.rfind(p, 0) == 0)
      return true;
  return false;
}

} // namespace

Counts counts_of(const dp_ledger &l) {
  Counts out;
  const auto put = [&out](const char *name, auto value) {
    if (value)
      out[name] = static_cast<int64_t>(value);
  };
  for (const Counter &c : kCounters)
    put(c.name, c.value(l));
  for (const Reason &r : kLost)
    put(r.name, l.lost[r.number]);
  for (const Reason &r : kExcluded)
    put(r.name, l.excluded[r.number]);
  for (const Reason &r : kEvents)
    put(r.name, l.event[r.number]);
  return out;
}

Counts difference(const Counts &after, const Counts &before) {
  Counts out = after;
  for (const auto &[name, value] : before) {
    out[name] -= value;
    if (out[name] == 0)
      out.erase(name);
  }
  return out;
}

Counts account(const Counts &all) {
  Counts out;
  for (const auto &[name, value] : all)
    if (is_counter(name, Counter::bytes) || starts_with_any(name, {"lost.", "excluded.", "event."}))
      out[name] = value;
  return out;
}

Counts flow_counts(const Counts &all) {
  Counts out;
  for (const auto &[name, value] : all)
    if (is_counter(name, Counter::flows) || name == "slots")
      out[name] = value;
  return out;
}

std::string text(const Counts &counts) {
  std::ostringstream out;
  for (const auto &[name, value] : counts)
    out << (out.tellp() ? ", " : "") << name << " " << value;
  return out.str();
}

std::string identity_broken(const dp_ledger &l) {
  std::ostringstream out;
  int64_t sum = static_cast<int64_t>(l.delivered) + l.in_flight;
  for (__u64 v : l.lost)
    sum += static_cast<int64_t>(v);
  for (__u64 v : l.excluded)
    sum += static_cast<int64_t>(v);
  if (sum != static_cast<int64_t>(l.observed))
    out << "observed is " << l.observed << ", the rest adds up to " << sum << ". ";
  if (l.begin != l.end)
    out << "a transaction was not closed: begin " << l.begin << ", end " << l.end << ". ";
  for (const Counter &c : kCounters)
    if (c.gauge && c.value(l) < 0)
      out << c.name << " is negative: " << c.value(l) << ". ";
  return out.str();
}

} // namespace doppel::bpftest
