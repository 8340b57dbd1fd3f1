// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/map_rows.h"

#include <bpf/bpf.h>
#include <linux/membarrier.h>
#include <netinet/in.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <tuple>

#include "userspace/kernel/cpus.h"
#include "userspace/mirror/port_rows.h"
#include "userspace/mirror/programs.h"

namespace doppel {
namespace {
constexpr int kClearTries = 100;
constexpr int kMostSteps = 100'000;

Status write_error(const char *map) {
  return sys_error(std::string("map ") + map, "cannot be written", errno);
}

uint32_t word_of(const dp_address_key &key) {
  return dp_port_word(key.port.proto == IPPROTO_UDP, key.port.port);
}

constexpr uint32_t kTaken = DP_EXCLUDED_N; // it is not left out

// As left_out() of the data plane has it, but for samples, which are decided once.
uint32_t left_out(const ClientLists &lists, const dp_mapping &row, const dp_flow_key &key) {
  if (!lists.wants(row, key.client))
    return DP_EXCLUDED_client_list;
  if (row.target[key.target % DP_MAX_TARGETS].sample == DP_SAMPLE_NONE)
    return DP_EXCLUDED_dry_run;
  return kTaken;
}

} // namespace

Result<MapRows> MapRows::open(const Pins &pins) {
  TRY(possible_cpus()); // else ledgers could not be cleared, half-way
  MapRows rows;
  const struct {
    const char *name;
    size_t value_size;
    MapTable *table;
  } all[] = {{"mappings", sizeof(dp_mapping), &rows.mappings_},
             {"port_map", sizeof(dp_port_val), &rows.port_map_},
             {"address_map", sizeof(dp_port_val), &rows.address_map_},
             {"ports", sizeof(uint32_t), &rows.ports_},
             {"flows", sizeof(dp_flow), &rows.flows_},
             {"ledger", sizeof(dp_ledger), &rows.ledger_},
             {"limits", sizeof(dp_limit), &rows.limits_},
             {"preambles", sizeof(dp_preamble), &rows.preambles_},
             {"converge", sizeof(dp_converge), &rows.converge_},
             {"pools", sizeof(dp_pool), &rows.pools_},
             {"pool_of", sizeof(uint32_t), &rows.pool_of_}};
  for (const auto &one : all) {
    *one.table = TRY(open_table(pins, one.name, one.value_size, Access::write));
  }
  rows.key_streams_ = open_pin(pins.map("key_streams"));
  if (!rows.key_streams_)
    return sys_error("map key_streams", "cannot be opened", errno);
  rows.prefixes_ = open_pin(pins.map("prefixes"));
  if (!rows.prefixes_)
    return sys_error("map prefixes", "cannot be opened", errno);
  return rows;
}

Result<std::vector<PortRow>> MapRows::ports() const {
  return read_rows(port_map_.fd.get(), address_map_.fd.get());
}

Result<dp_mapping> MapRows::mapping(uint32_t row) const {
  dp_mapping m{};
  if (bpf_map_lookup_elem(mappings_.fd.get(), &row, &m))
    return sys_error("map mappings", "cannot be read", errno);
  return m;
}

Result<Preambles> MapRows::preambles(uint32_t row, const dp_mapping &mapping) const {
  Preambles all;
  for (uint32_t target = 0; target < mapping.n_targets && target < DP_MAX_TARGETS; target++) {
    const uint32_t place = row * DP_MAX_TARGETS + target;
    dp_preamble p{};
    if (bpf_map_lookup_elem(preambles_.fd.get(), &place, &p))
      return sys_error("map preambles", "cannot be read", errno);
    all.emplace_back(reinterpret_cast<const char *>(p.data), std::min<size_t>(p.len, DP_PREAMBLE));
  }
  return all;
}

Status MapRows::put(uint32_t row, const Preambles &preambles) const {
  for (uint32_t target = 0; target < DP_MAX_TARGETS; target++) {
    const uint32_t place = row * DP_MAX_TARGETS + target;
    const dp_preamble p = preamble_row(target < preambles.size() ? preambles[target] : "");
    if (bpf_map_update_elem(preambles_.fd.get(), &place, &p, BPF_ANY))
      return write_error("preambles");
  }
  return Unit{};
}

Result<std::vector<MirrorState::Pool>> MapRows::pools() const {
  std::vector<MirrorState::Pool> all;
  for (uint32_t i = 0; i < pools_.entries; i++) {
    dp_pool pool{};
    if (bpf_map_lookup_elem(pools_.fd.get(), &i, &pool))
      return sys_error("map pools", "cannot be read", errno);
    all.push_back({Address{pool.address}, pool.taken});
  }
  return all;
}

Status MapRows::put_pool(uint32_t number, const Address &address) const {
  dp_pool pool{};
  if (bpf_map_lookup_elem(pools_.fd.get(), &number, &pool))
    return sys_error("map pools", "cannot be read", errno);
  if (Address{pool.address}.is_set() && bpf_map_delete_elem(pool_of_.fd.get(), &pool.address) &&
      errno != ENOENT)
    return write_error("pool_of");
  pool.address = address.raw;
  if (bpf_map_update_elem(pools_.fd.get(), &number, &pool, BPF_ANY))
    return write_error("pools");
  if (address.is_set() && bpf_map_update_elem(pool_of_.fd.get(), &pool.address, &number, BPF_ANY))
    return write_error("pool_of");
  return Unit{};
}

Status MapRows::put(uint32_t row, const dp_mapping &mapping) const {
  if (bpf_map_update_elem(mappings_.fd.get(), &row, &mapping, BPF_ANY))
    return write_error("mappings");
  return Unit{};
}

Status MapRows::put(const PortRow &row) const {
  const uint32_t word = word_of(row.key);
  uint32_t bits = 0;
  if (bpf_map_lookup_elem(ports_.fd.get(), &word, &bits))
    return sys_error("map ports", "cannot be read", errno);
  bits |= dp_port_bit(row.key.port.port);
  if (bpf_map_update_elem(ports_.fd.get(), &word, &bits, BPF_ANY))
    return write_error("ports");
  return put_row(port_map_.fd.get(), address_map_.fd.get(), row);
}

Status MapRows::drop(const std::vector<dp_address_key> &keys) const {
  if (keys.empty())
    return Unit{};
  std::map<uint32_t, uint32_t> bits; // of the words that these keys are in
  TRY(drop_rows(port_map_.fd.get(), address_map_.fd.get(), keys));
  for (const dp_address_key &key : keys)
    bits[word_of(key)] = 0;
  const auto left = TRY(ports());
  for (const PortRow &row : left)
    if (const auto word = bits.find(word_of(row.key)); word != bits.end())
      word->second |= dp_port_bit(row.key.port.port);
  for (const auto &[word, value] : bits)
    if (bpf_map_update_elem(ports_.fd.get(), &word, &value, BPF_ANY))
      return write_error("ports");
  return Unit{};
}

// A late packet of the target's may be counted in a cell at the very moment: what it leaves behind
// is then half a transaction, which shows, and is cleared once more. The wait takes tens of
// milliseconds, and serves all of them.
Status MapRows::clear_ledgers(std::vector<uint32_t> cells) const {
  const std::vector<dp_ledger> zero(TRY(possible_cpus()));
  std::vector<dp_ledger> now(zero.size());
  for (int i = 0; i < kClearTries && !cells.empty(); i++) {
    for (const uint32_t cell : cells)
      if (bpf_map_update_elem(ledger_.fd.get(), &cell, zero.data(), BPF_ANY))
        return write_error("ledger");
    wait_for_programs();
    std::vector<uint32_t> again;
    for (const uint32_t cell : cells) {
      if (bpf_map_lookup_elem(ledger_.fd.get(), &cell, now.data()))
        return sys_error("map ledger", "cannot be read", errno);
      if (std::any_of(now.begin(), now.end(), [](const dp_ledger &l) { return l.begin != l.end; }))
        again.push_back(cell);
    }
    cells = std::move(again);
  }
  if (cells.empty())
    return Unit{};
  return Error{"map ledger", "cell " + std::to_string(cells.front()) + " never came to rest", {}};
}

// Capture may make others of them meanwhile, which it follows from then on.
Status MapRows::forget_key_streams(const std::set<uint32_t> &rows) const {
  if (rows.empty())
    return Unit{};
  std::vector<dp_flow_key> all;
  dp_flow_key next{};
  const dp_flow_key *last = nullptr;
  for (int n = 0; n < kMostSteps; n++) { // one that goes meanwhile has the walk begin anew
    if (bpf_map_get_next_key(key_streams_.get(), last, &next)) {
      if (errno == ENOENT)
        break;
      return sys_error("map key_streams", "cannot be read", errno);
    }
    if (rows.count(next.mapping))
      all.push_back(next);
    last = &next;
  }
  for (const dp_flow_key &key : all)
    if (bpf_map_delete_elem(key_streams_.get(), &key) && errno != ENOENT)
      return write_error("key_streams");
  return Unit{};
}

Status MapRows::forget_flows(const std::set<uint32_t> &rows,
                             const CommandProgram &data_plane) const {
  auto flows = TRY(read_flow_table(flows_));
  for (const auto &[key, flow] : flows)
    if (rows.count(key.mapping))
      TRY(data_plane.expire(key, 0));
  return Unit{};
}

// A mapping without an address may lose what goes to one address to another mapping.
Status MapRows::forget_moved(const std::vector<PortRow> &before, const std::vector<PortRow> &fresh,
                             const CommandProgram &data_plane) const {
  const auto place = [](const PortRow &row) {
    const dp_port_key &k = row.key.port;
    return std::tuple(k.ifindex, k.port, k.proto, k.direction);
  };
  std::map<std::tuple<uint32_t, uint16_t, uint8_t, uint8_t>, uint32_t> of_any; // row of `mappings`
  for (const PortRow &row : before)
    if (!has_address(row.key))
      of_any.emplace(place(row), row.val.mapping);
  std::set<std::tuple<uint32_t, Address, uint16_t>> moved; // from which row
  for (const PortRow &row : fresh)
    if (const auto was = of_any.find(place(row));
        has_address(row.key) && was != of_any.end() && was->second != row.val.mapping)
      moved.emplace(was->second, Address{row.key.address}, row.key.port.port);
  if (moved.empty())
    return Unit{};
  wait_for_programs();
  const auto flows = TRY(read_flow_table(flows_));
  for (const auto &[key, flow] : flows)
    if (moved.count({key.mapping, Address{key.server}, ntohs(key.server_port)}))
      TRY(data_plane.expire(key, 0));
  return Unit{};
}

Result<std::set<uint16_t>> MapRows::lists_in_use() const {
  std::set<uint16_t> lists;
  for (uint32_t row = 0; row < rows(); row++)
    if (const uint16_t list = TRY(mapping(row)).clients)
      lists.insert(list);
  return lists;
}

Status MapRows::forget_relisted(const std::set<uint32_t> &rows,
                                const CommandProgram &data_plane) const {
  std::map<uint32_t, dp_mapping> mappings;
  for (const uint32_t row : rows)
    mappings[row] = TRY(mapping(row));
  const auto flows = TRY(read_flow_table(flows_));
  for (const auto &[key, flow] : flows) {
    const auto m = mappings.find(key.mapping);
    if (m == mappings.end())
      continue;
    const uint32_t was = flow.slot == DP_NO_SLOT ? flow.excluded : kTaken;
    const bool was_left_out = was == DP_EXCLUDED_client_list || was == DP_EXCLUDED_dry_run;
    const uint32_t is = left_out(lists(), m->second, key);
    if (is == kTaken ? was_left_out : was != is)
      TRY(data_plane.expire(key, 0));
  }
  return Unit{};
}

Result<dp_ledger> MapRows::ledger(uint32_t row, uint32_t target) const {
  return read_cell(ledger_, dp_ledger_cell(row, target));
}

Status MapRows::clear(const std::set<uint32_t> &rows) const {
  const dp_converge converge{};
  std::vector<uint32_t> cells;
  for (uint32_t row : rows) {
    if (bpf_map_update_elem(converge_.fd.get(), &row, &converge, BPF_ANY))
      return write_error("converge");
    for (uint32_t target = 0; target < DP_MAX_TARGETS; target++) {
      const uint32_t place = row * DP_MAX_TARGETS + target;
      // Chunks that wait to be freed are counted still.
      dp_limit was{}, limit{};
      if (!bpf_map_lookup_elem(limits_.fd.get(), &place, &was))
        limit.chunks = was.chunks;
      if (bpf_map_update_elem(limits_.fd.get(), &place, &limit, BPF_ANY))
        return write_error("limits");
      cells.push_back(dp_ledger_cell(row, target));
    }
  }
  return clear_ledgers(std::move(cells));
}

Result<MirrorState> read_mirror_state(Rtnl &nl, const Pins &pins, const Meta &meta,
                                      const MapRows &rows) {
  MirrorState state;
  state.limits = meta.limits;
  state.mode = meta.mechanism;
  state.ports = TRY(rows.ports());
  state.pools = TRY(rows.pools());
  for (uint32_t row = 0; row < rows.rows(); row++) {
    auto mapping = TRY(rows.mapping(row));
    auto name = std::find_if(meta.mappings.begin(), meta.mappings.end(),
                             [&](const NamedMapping &n) { return n.row == row; });
    if (name == meta.mappings.end() && mapping.n_targets == 0)
      continue;
    MirrorState::Mapping m{name == meta.mappings.end() ? NamedMapping{} : *name, mapping,
                           TRY(rows.preambles(row, mapping))};
    m.name.row = row;
    state.mappings.push_back(std::move(m));
  }
  for (const AttachedProgram &p : meta.programs)
    state.programs.push_back(p.what);
  for (const AttachedProgram &p : find_running(nl, pins, state.programs))
    state.running.push_back(p.what);
  return state;
}

// MEMBARRIER_CMD_GLOBAL is a wait for RCU, under which all programs run. Where the kernel refuses
// it (nohz_full), the wait for shadows to drain, which follows each change, is far longer.
void wait_for_programs() { ::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0); }

} // namespace doppel
