// SPDX-License-Identifier: Apache-2.0
// Whether the targets may take over: what was seen over one window, and the judgement. Pure.
#pragma once

#include <cstdint>
#include <ctime>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "userspace/migrate/criteria.h"
#include "userspace/migrate/pair.h"
#include "userspace/migrate/server_sample.h"
#include "userspace/view/render.h"
#include "userspace/view/snapshot.h"

namespace doppel::migrate {

// `absent`, of each of these: why nothing is known; empty: something is.
struct MirrorWindow {
  std::string absent;
  std::vector<Problem> problems; // at its end, in order
  uint32_t ports = 0, ports_free = 0;
  uint32_t chunks = 0, chunks_used = 0;
  std::string rows_absent; // why none of its rows is asked for
};

struct RowWindow {
  RowName name;
  std::string absent;
  dp_ledger before{}, after{};
  uint64_t over_ns = 0;
  uint64_t now_ns = 0;           // its end, as moments of the ledger are
  uint64_t missing_at_since = 0; // bytes of before --since, which nobody asks for any more
  uint64_t missed_at_since = 0;  // keys, likewise
  std::string since_absent;      // why nobody knows what was missing in all; empty: it is known
  std::time_t since = 0;         // as of MappingCounters
  uint64_t since_ns = 0;         // likewise
  std::optional<dp_converge> converge; // at its end; nothing: the mapping does not converge
  uint64_t compared = 0;               // keys in it, by who converges
  Portion portion;                     // at its end
  bool chooses_clients = false;        // likewise, by lists
};

// Keys of a sample.
struct Coverage {
  uint64_t equal = 0, compared = 0;
  uint64_t moving = 0;             // changed while they were looked at: no verdict
  uint64_t extra = 0, targets = 0; // of so many keys of the target the source lacks these
  uint64_t unseen = 0;             // of the source's keys, those that were not chosen
};

struct PairWindow {
  Pair pair;
  std::string absent;
  ServerWindow source, target;
  ServerSample source_now, target_now;
  uint64_t late_gets = 0; // of the target that the source need not have counted in the window
  std::optional<Coverage> coverage;
  std::string coverage_absent;
};

struct ReadyWindow {
  bool without_mirror = false; // nobody asks for the mirror's criteria
  uint64_t over_ns = 0;
  MirrorWindow mirror;
  std::vector<RowWindow> rows;
  std::vector<PairWindow> pairs;
  std::vector<Unpaired> unpaired;
};

// One criterion of one subject.
struct Finding {
  const Criterion *criterion = nullptr;
  std::string subject;         // "data 192.168.2.184:11211", "A -> B"; empty: the mirror
  std::optional<double> value; // nothing: not known
  double limit = 0;
  bool ok = false;    // false as well where the value is not known
  std::string reason; // a sentence without full stop; may be empty
  std::string remedy; // what to do; empty where it is ok
};

// In the order of the list, and within it in that of the subjects.
std::vector<Finding> judge_ready(const ReadyWindow &window, const CriterionLimits &limits);

// All are ok, and there is at least one.
bool is_ready(const std::vector<Finding> &findings);

struct Readiness {
  std::time_t now = 0;
  uint64_t over_ms = 0; // the window
  std::vector<Finding> findings;
  std::optional<uint64_t> ready_in_s; // an estimate; nothing: none can be made, or it is ready
};
Json to_json(const Readiness &readiness);
std::string json_text(const Readiness &readiness, bool one_line = false);
std::string to_text(const Readiness &readiness);

// Row by row, of two looks at the ledger; `absent` where one of them lacks the row, or the ledger
// began anew meanwhile: a window that was not watched is not claimed.
std::vector<RowWindow> row_windows(const std::vector<RowName> &rows, const Counters &before,
                                   const Counters &after);

// Keys that may differ on that target, and were overlooked since the mirror was attached.
uint64_t missed_keys(const dp_ledger &ledger, const std::optional<dp_converge> &converge);

struct Missing {
  uint64_t bytes = 0, keys = 0;
  uint64_t since_ns = 0; // when the mapping's ledger began; 0: at attach
};
// What was missing when the ledger was kept: the JSON of `doppel counters`, by target_key().
// Errors: not such a document, or of another mirror than the one attached then.
Result<std::map<std::string, Missing>> missing_of(const std::string &json, const std::string &name,
                                                  std::time_t attached);
// Takes from the row's figures what was missing then. A mapping that a reload made has a ledger
// that began anew: what came before is told by one that was kept since, or by nobody.
void count_from(RowWindow &row, const std::map<std::string, Missing> &at_since);

} // namespace doppel::migrate
