// SPDX-License-Identifier: Apache-2.0
// What users see of a running data plane: text for people, JSON for programs. Pure.
//
// The names in the JSON are a contract: more may be added, none is renamed or left out. Byte and
// packet numbers are exact there, and rounded down to human units in the text.
#pragma once

#include <iterator>
#include <nlohmann/json_fwd.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "userspace/util/error.h"
#include "userspace/view/snapshot.h"

namespace doppel {

// Keys in the order in which they are explained. Who looks inside includes <nlohmann/json.hpp>,
// which takes a compiler seconds.
using Json = nlohmann::ordered_json;

// Each reason, at the index that is its number.
struct Reason {
  unsigned number;
  const char *name, *help;
  bool unwanted = false; // an exclusion that the user asked for, or a loop: nobody misses its bytes
};
extern const Reason lost_reasons[DP_LOST_N];
extern const Reason excluded_reasons[DP_EXCLUDED_N];
extern const Reason event_reasons[DP_EVENT_N];

// What a cell counts besides the reasons, in the order of counters.def.
enum class CounterGroup { bytes, flows, packets, use };
struct Counter {
  CounterGroup group;
  const char *name, *help;
  bool gauge;                            // goes up and down: the value is signed
  uint64_t (*value)(const dp_ledger &l); // of a gauge: two's complement
};
const std::vector<Counter> &all_counters();

// What a cell knows the last time of, in the order of moments.def.
struct Moment {
  const char *name, *help;
  uint64_t (*value)(const dp_moments &m); // as dp_moments; 0: never
};
const std::vector<Moment> &all_moments();

// A second, on average over that time, rounded. Nothing: there was no time.
std::optional<uint64_t> rate_of(uint64_t now, uint64_t before, uint64_t over_ns);

// Of all reasons of one kind together, as lost[] and excluded[] of a cell.
template <size_t N> uint64_t sum_of(const __u64 (&values)[N]) {
  return std::accumulate(std::begin(values), std::end(values), uint64_t{0});
}

// Bytes that the user wanted at the target and that will never come there: all that is lost, and
// all that is excluded without being unwanted. What `detach` does not let begin any more (`paused`)
// is among them: source and target differ by it, whoever wanted the mirror to end.
uint64_t missing(const dp_ledger &ledger);

// Share of what the user wanted delivered that is: delivered / (observed - unwanted), in [0,1].
// Nothing: there was nothing to deliver. Bytes in flight are not delivered yet.
std::optional<double> completeness(const dp_ledger &ledger);

Json to_json(const Counters &counters);
Json to_json(const StatusView &status);
Json to_json(const std::vector<ProbeRow> &probe); // {"ok": ..., "features": [...]}
Json to_json(const DetachReport &report);
Json to_json(const std::vector<NamedMapping> &mappings);
Json to_json(const Errors &errors); // {"errors": [{where, what, hint}]}

std::string to_text(const Counters &counters);
// The bytes alone, a row for each port or range that a mapping has, in their order.
std::string by_port_text(const Counters &counters);
// "9 bytes observed, 5 delivered, 4 lost (detached 4), 0 excluded", of all its targets together.
std::string in_one_line(const MappingCounters &mapping);
std::string to_text(const StatusView &status);
std::string to_text(const std::vector<ProbeRow> &probe);
std::string to_text(const DetachReport &report);
// What the target lacks, or may lack, because the mirror has ended, though all went as it should.
Errors shortfalls(const DetachReport &report);
// "3 shadows were reset while ...": what that means for the target.
std::string owed_text(uint32_t shadows);
std::string to_text(const std::vector<NamedMapping> &mappings);
std::string to_text(const Errors &errors); // "error: WHERE: WHAT" and "hint: ...", a line each

// The keys of the configuration file explained: docs/configuration.md, and a section of the manual
// page in the markup of groff_man(7).
std::string configuration_markdown();
std::string configuration_roff();

// Text in which groff_man(7) finds no markup of its own.
std::string roff(const std::string &text);

// Attached and nothing missing.
bool is_whole(const StatusView &status);
// Of `doppel status`.
Exit exit_of(const StatusView &status);
// Nothing that is needed is absent.
bool is_able(const std::vector<ProbeRow> &probe);

// One line without line breaks, for a stream of documents; or indented. Invalid UTF-8 (a device
// can be named so) is replaced, never thrown on.
std::string dump(const Json &json, bool one_line = false);

// dump(to_json(value)), of each of the types above.
template <typename T> std::string json_text(const T &value, bool one_line = false);

} // namespace doppel
