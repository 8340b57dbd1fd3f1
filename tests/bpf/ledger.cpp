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
  put("observed", l.observed);
  put("delivered", l.delivered);
  put("in_flight", l.in_flight);
  for (const Reason &r : kLost)
    put(r.name, l.lost[r.number]);
  for (const Reason &r : kExcluded)
    put(r.name, l.excluded[r.number]);
  for (const Reason &r : kEvents)
    put(r.name, l.event[r.number]);
  put("opened", l.opened);
  put("joined", l.joined);
  put("closed", l.closed);
  put("broken", l.broken);
  put("open", l.open);
  put("waiting", l.waiting);
  put("slots", l.slots);
  put("chunks", l.chunks);
  put("captured", l.captured);
  put("copied", l.copied);
  put("resent", l.resent);
  put("responses", l.responses);
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
    if (starts_with_any(name,
                        {"observed", "delivered", "in_flight", "lost.", "excluded.", "event."}))
      out[name] = value;
  return out;
}

Counts flow_counts(const Counts &all) {
  Counts out;
  for (const auto &[name, value] : all)
    if (starts_with_any(name, {"opened", "joined", "closed", "broken", "open", "waiting", "slots"}))
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
  const std::pair<const char *, int64_t> gauges[] = {{"in_flight", l.in_flight},
                                                     {"open", l.open},
                                                     {"waiting", l.waiting},
                                                     {"slots", l.slots},
                                                     {"chunks", l.chunks}};
  for (auto [name, value] : gauges)
    if (value < 0)
      out << name << " is negative: " << value << ". ";
  return out.str();
}

} // namespace doppel::bpftest
