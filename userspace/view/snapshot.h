// SPDX-License-Identifier: Apache-2.0
// What a running data plane looks like, as plain data: read by mirror/, shown by render.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "doppel/abi.h"
#include "userspace/plan/plan.h"
#include "userspace/util/endpoint.h"
#include "userspace/util/portion.h"
#include "userspace/view/problem.h"

namespace doppel {

// Sum of all per-CPU cells of one mapping and target; the identity holds to the byte.
struct TargetCounters {
  std::string target; // "192.168.2.184:11211"
  dp_ledger sum{};
  dp_ledger before{}; // the same at the begin of the time that rates are of
  Portion portion{};
  bool keep_client = false; // "source_address": "client"
};

// Behind the name of a mapping that a reload is taking away: another one may have its name by now.
inline constexpr char kGoing[] = " (going)";

struct MappingCounters {
  std::string name;
  std::vector<TargetCounters> targets;
  std::optional<dp_converge> converge = {}; // nothing: it is not asked for
  std::time_t since = 0;        // since when it counts, where a reload began that; 0: since attach
  uint64_t since_ns = 0;        // the same moment, as moments of the ledger are
  bool chooses_clients = false; // include_clients, exclude_clients
  std::string ports = {};       // as NamedMapping::service() has it
};

// A line of converge.def.
struct ConvergeFigure {
  const char *name, *help;
  __u64 dp_converge::*value;
};
const std::vector<ConvergeFigure> &converge_figures();
// How long the key has waited that waits longest. `now_ns`: Counters::now_ns.
uint64_t unrepaired_ms(const dp_converge &row, uint64_t now_ns);
// Somebody does it, and both servers answer.
bool is_converging(const dp_converge &row, uint64_t now_ns);
// Somebody does, who may not reach a server at present.
bool is_looked_after(const dp_converge &row, uint64_t now_ns);

// Adds each counter of `part`.
void add(dp_ledger *sum, const dp_ledger &part);

struct Counters {
  std::vector<MappingCounters> mappings;
  dp_ledger global{};                   // cell DP_LEDGER_GLOBAL
  uint32_t removed_mappings = 0;        // by reload, since attach
  dp_ledger removed{};                  // the sum of their last ledgers
  uint32_t ports_free = 0, ports = 0;   // shadow ports, of the target that has least left
  uint32_t chunks_used = 0, chunks = 0; // store

  std::time_t now = 0;      // when they were read: Unix time, seconds
  uint64_t now_ns = 0;      // the same moment, as moments of the ledger are
  std::time_t attached = 0; // since when they count
  uint64_t over_ns = 0; // the time that rates are of: since then, or see measure_rates(); 0: none
};

// Of two looks at the same mirror: the rates of the later one are those since the earlier.
void measure_rates(Counters &now, const Counters &before);

// The last loss that a cell knows of.
struct Loss {
  uint64_t at_ns = 0;
  const char *reason = ""; // of reasons.def
};
std::optional<Loss> last_loss(const dp_ledger &ledger);

// The Unix time of a moment before `now_ns`, which is `now`.
std::time_t unix_time(uint64_t moment_ns, uint64_t now_ns, std::time_t now);

struct FlowRow {
  std::string mapping;
  Endpoint client, server, target, shadow; // shadow: may be none
  std::string state;                       // "WAITING" or the dp_state's RFC name
  std::string reason;                      // without a shadow: name of the exclusion
  unsigned copy = 0;                       // which of a target's copies, from 0 on
  bool joined = false;
  uint64_t observed = 0, delivered = 0;
  uint32_t in_flight = 0, waiting_to_send = 0, window = 0, resent = 0, rto_ms = 0, srtt_us = 0;
  uint32_t cwnd = 0, ssthresh = 0;
  uint64_t age_ms = 0, idle_ms = 0;
};

// A program that is on a hook, ours or another's.
struct AttachedProgram {
  Attachment what; // its program is "?" where the name cannot be read
  AttachMode mechanism = AttachMode::tcx;
  uint32_t prog_id = 0;
  uint32_t link_id = 0;              // tcx; 0: attached without a link
  uint32_t priority = 0, handle = 0; // clsact
  uint32_t chain = 0;                // clsact
  uint16_t protocol = 0;             // clsact, host order
  bool made_qdisc = false;           // clsact: our filter says that attach created its qdisc
  bool ours = false;
  uint32_t position = 0; // 1 = runs first, among everything on this hook
};

// How a target fares.
enum class TargetState { untried, up, slow, hung, silent, refusing };
const char *state_name(TargetState state);

struct TargetHealth {
  std::string mapping, target;
  TargetState state = TargetState::untried;
  std::time_t since = 0; // of a state that is a problem; 0: not known
  uint64_t waits = 0;    // bytes that it has not acknowledged
  std::optional<uint64_t>
      quiet_ms; // since it took or acknowledged something; nothing: it never did
  std::optional<std::time_t> lost_at; // when bytes were lost last
  std::string lost_reason;
  uint64_t lost = 0;                        // bytes, in all
  std::optional<uint64_t> lost_in_a_minute; // bytes; nothing: nobody has looked that long
};

// Who keeps the mirror.
struct KeeperView {
  bool expected = false; // one is there, or has taken it in its care and has not given it back
  bool alive = false;
  long pid = 0;          // 0: there is none; -1: not to be seen from here
  std::time_t since = 0; // when it took it
};

struct StatusView {
  bool attached = false;
  std::string since; // local time, ISO 8601
  std::string config_source;
  uint32_t abi = DP_ABI;
  std::vector<NamedMapping> mappings;
  std::vector<AttachedProgram> hooks; // ours and the neighbours', in running order per hook
  std::vector<std::string> missing;   // what should be there and is not: a sentence each
  std::vector<std::string> warnings;

  std::time_t now = 0;
  std::vector<Problem> problems; // in order
  std::vector<TargetHealth> targets;
  KeeperView keeper;
  bool paused = false;
};

// What detach did.
struct DetachReport {
  bool was_attached = false;
  uint32_t closed = 0, reset = 0; // shadows
  uint32_t owed = 0;              // of those reset, on which the target had work to do yet
  uint64_t lost = 0;              // bytes, from when it began: they were in flight then
  bool ledger = false;            // it could be read
  Counters last;                  // final ledger
  Errors errors;                  // what did not go as it should, or is left
};

struct ProbeRow {
  std::string feature; // "tcx", "bpffs", "bpf_timer", ...
  bool ok = false;
  bool needed = true;
  std::string detail; // what was found, or what to do
  bool tried = true;  // false: nobody knows, and `ok` says nothing
};

} // namespace doppel
