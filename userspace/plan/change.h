// SPDX-License-Identifier: Apache-2.0
// What has to be done to an attached data plane so that it does what a plan says, and no more than
// that. Pure, so that it is tested without root.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "userspace/plan/plan.h"

namespace doppel {

// What the maps hold and what runs on the hooks.
struct MirrorState {
  struct Mapping {
    NamedMapping name; // only `row` is set: nobody's, left behind by a change that was interrupted
    dp_mapping row{};
    Preambles preambles = {};
  };
  Limits limits;                        // as Plan::limits
  AttachMode mode = AttachMode::clsact; // tcx or clsact
  std::vector<Mapping> mappings;
  struct Pool {
    Address address; // not set: nobody's; the first is all others'
    int64_t taken = 0;
  };
  std::vector<Pool> pools; // by dp_target.pool
  std::vector<PortRow> ports;
  std::vector<Attachment> programs; // that were attached
  std::vector<Attachment> running;  // those of them that are still on their hooks
};

struct Change {
  struct List {
    uint16_t number; // dp_mapping.clients
    Clients clients;
  };
  std::vector<NamedMapping> names; // all mappings from now on, with their rows
  std::vector<std::pair<uint32_t, dp_mapping>>
      new_rows;                                        // to be written before any port leads there
  std::map<uint32_t, Preambles> preambles;             // of these rows
  std::vector<std::pair<uint32_t, dp_mapping>> rows;   // of mappings that stay: to be overwritten
  std::vector<uint32_t> old_rows;                      // to be drained and emptied
  std::vector<std::pair<uint32_t, Address>> new_pools; // to be written before any row names them
  std::vector<List> new_lists;                         // to be written before any row names them
  // Rows that stay, and whose open connections are decided anew: with another list of clients, or
  // with none now, or where a dry run begins or ends.
  std::set<uint32_t> relisted;
  bool lists = false;         // some are new, or are nobody's from now on
  std::vector<PortRow> ports; // to be written: new, or leading to another row from now on
  std::vector<dp_address_key> old_ports; // to be deleted
  std::vector<Attachment> attach;        // return before capture
  std::vector<Attachment> detach;
  // For people. The same name in both: the mapping changed, and got a row of its own.
  std::vector<std::string> added, removed;
  std::vector<std::string> updated; // stay, with another route or ceiling: a sentence each
  bool empty() const;
};

// Every setting that differs and is fixed while attached, and addresses without room; with what to
// do.
Errors fixed_differences(const MirrorState &state, const Plan &wanted);
// Whether these errors are all of that kind.
bool are_fixed_differences(const Errors &errors);

// Mappings are the same if name, direction, ports, address, targets, shadow and source addresses,
// preambles, application, join and promiscuous are: they keep row, shadows and ledger. `deferred`:
// names of mappings that are not in `wanted` because of the state of the host; they stay as they
// are, with the programs by which they capture and hear their targets, but for those of devices
// that others of the same name have replaced. Fails if there are not enough free rows.
Result<Change> plan_change(const MirrorState &state, const Plan &wanted,
                           const std::set<std::string> &deferred = {});

// One of its targets gets nothing for want of a route.
bool lacks_a_route(const dp_mapping &row);

// Whether a mapping of a plan would keep the row of that attached one, as far as its own row tells:
// not which addresses its copies come from.
bool may_keep_row(const MirrorState::Mapping &attached, const NamedMapping &name,
                  const dp_mapping &row, const Preambles &preambles);

// Mappings that are there no more, under whatever row: not those that only changed.
std::vector<std::string> removed_names(const Change &change);

// "2 mappings; added a; changed b; removed c, d"
std::string to_text(const Change &change);

} // namespace doppel
