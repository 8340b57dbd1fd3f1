// SPDX-License-Identifier: Apache-2.0
// Reads and writes the rows of an attached data plane that a change is made of.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "userspace/kernel/rtnl.h"
#include "userspace/mirror/client_lists.h"
#include "userspace/mirror/command.h"
#include "userspace/mirror/maps.h"
#include "userspace/plan/change.h"

namespace doppel {

// The maps that a change touches. Each writer is atomic for the packets under way: they see the
// row before or the row after.
class MapRows {
public:
  static Result<MapRows> open(const Pins &pins);

  Result<std::vector<PortRow>> ports() const;
  uint32_t rows() const { return mappings_.entries; } // of mappings, used or not
  Result<dp_mapping> mapping(uint32_t row) const;
  Result<Preambles> preambles(uint32_t row, const dp_mapping &mapping) const;

  Status put(uint32_t row, const dp_mapping &mapping) const;
  Status put(uint32_t row, const Preambles &preambles) const;
  Result<std::vector<MirrorState::Pool>> pools() const;
  // Nobody names that pool, or its slots are free. `address`: not set: it is nobody's.
  Status put_pool(uint32_t pool, const Address &address) const;
  Status put(const PortRow &port) const; // and its bit in `ports`
  // All at once, since each bit goes with the last row of its port, and to know that takes a walk.
  Status drop(const std::vector<dp_address_key> &keys) const;

  // Forgets the flows of these rows. No port leads to them any more, and their shadows are over.
  // The data plane does it: it counts them.
  Status forget_flows(const std::set<uint32_t> &rows, const CommandProgram &data_plane) const;
  // Forgets the flows for which `fresh` leads from a row that stays to another one, given what the
  // ports were before: their shadows close, and the connections join behind them.
  Status forget_moved(const std::vector<PortRow> &before, const std::vector<PortRow> &fresh,
                      const CommandProgram &data_plane) const;
  ClientLists lists() const { return ClientLists(prefixes_.get()); }
  // Those that rows name now.
  Result<std::set<uint16_t>> lists_in_use() const;
  // Forgets the flows of these rows that their lists, or a dry run, decide otherwise now: shadows
  // close, and the flows begin anew.
  Status forget_relisted(const std::set<uint32_t> &rows, const CommandProgram &data_plane) const;
  // What capture knows of their connections' requests, which it has not followed all the time.
  Status forget_key_streams(const std::set<uint32_t> &rows) const;
  Result<dp_ledger> ledger(uint32_t row, uint32_t target) const;
  // Their ledgers, and what is known of their limits, once their flows are forgotten.
  Status clear(const std::set<uint32_t> &rows) const;

private:
  Status clear_ledgers(std::vector<uint32_t> cells) const;
  MapTable mappings_, port_map_, address_map_, ports_, flows_, ledger_, limits_, converge_,
      preambles_, pools_, pool_of_;
  Fd key_streams_; // by dp_flow_key
  Fd prefixes_;
};

Result<MirrorState> read_mirror_state(Rtnl &nl, const Pins &pins, const Meta &meta,
                                      const MapRows &rows);

// Waits until no program that runs now can still be working with a row as it was.
void wait_for_programs();

} // namespace doppel
