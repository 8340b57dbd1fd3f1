// SPDX-License-Identifier: Apache-2.0
#include "userspace/mirror/object.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>

#include "doppel.skel.h"
#include "doppel/abi.h"
#include "doppel/names.h"
#include "doppel_conntrack.skel.h"
#include "userspace/kernel/cpus.h"
#include "userspace/kernel/descriptors.h"
#include "userspace/kernel/libbpf_log.h"
#include "userspace/kernel/netns.h"
#include "userspace/mirror/client_lists.h"
#include "userspace/mirror/port_rows.h"

namespace doppel {
namespace {
// Half-open handshakes that are remembered at once. An LRU map keeps per-CPU reserves and evicts
// early when it is small.
uint32_t syn_entries(uint32_t flows) { return std::max(4096u, flows / 4); }

uint32_t max_mappings(const Plan &plan) { return static_cast<uint32_t>(plan.limits.max_mappings); }

// Of all that each mapping has a place in, for every CPU of the machine.
uint64_t mappings_bytes(const Plan &plan, uint64_t cpus) {
  const uint64_t mappings = max_mappings(plan);
  return dp_ledger_cells(max_mappings(plan)) * sizeof(dp_ledger) * cpus +
         mappings * (sizeof(dp_mapping) + sizeof(dp_converge) + DP_MAX_TARGETS * sizeof(dp_limit)) +
         2 * uint64_t{dp_meta_size(max_mappings(plan))};
}

// Maps are allocated as a whole when they are created. Asking for most of the memory that is left
// would drive the host into reclaim before the kernel says no.
Status check_memory(const Plan &plan) {
  constexpr uint64_t element = 64; // what the kernel adds to each row of a hash, rounded up
  uint64_t store = plan.store_rows * (sizeof(dp_store_key) + sizeof(uint32_t) + element) +
                   plan.chunks * (sizeof(uint32_t) + sizeof(dp_chunk));
  uint64_t rest = plan.flows * (sizeof(dp_flow_key) + sizeof(dp_flow) + element) +
                  plan.config.slots * sizeof(dp_shadow) +
                  mappings_bytes(plan, TRY(possible_cpus()));
  for (const Clients &c : plan.clients) // a node of the trie, and one where it parts from others
    rest += c ? ClientLists::rows_of(*c) * 2 * (sizeof(dp_prefix_key) + element) : 0;
  std::ifstream meminfo("/proc/meminfo");
  uint64_t available = 0; // KiB
  for (std::string line; std::getline(meminfo, line);)
    if (line.starts_with("MemAvailable:"))
      available = std::strtoull(line.c_str() + sizeof("MemAvailable:") - 1, nullptr, 10);
  if (!available || store + rest <= available * 1024 / 4 * 3)
    return Unit{};
  return Error{
      store > rest ? "map store" : "maps of flows, shadows and mappings",
      "the data plane would take " + std::to_string((store + rest) >> 20) +
          " MiB, and this host has " + std::to_string(available >> 10) +
          " MiB available, of which it may take three quarters",
      "lower \"store\", \"flows\", \"shadow_ports\" or \"max_mappings\" in the configuration, or "
      "name fewer \"shadow_addresses\""};
}

// Both images have the same maps and programs, so that the skeleton of one serves for the other.
static_assert(sizeof(doppel_bpf::maps) == sizeof(doppel_conntrack_bpf::maps));
static_assert(sizeof(doppel_bpf::progs) == sizeof(doppel_conntrack_bpf::progs));
static_assert(offsetof(doppel_bpf::doppel_bpf__rodata, cfg) ==
              offsetof(doppel_conntrack_bpf::doppel_conntrack_bpf__rodata, cfg));

// Each map and each program has one until the skeleton ends; libbpf has some for a moment.
constexpr size_t kDescriptors =
    (sizeof(doppel_bpf::maps) + sizeof(doppel_bpf::progs)) / sizeof(void *) + 16;

doppel_bpf *open_image(bool conntrack) {
  auto *skel = static_cast<doppel_bpf *>(std::calloc(1, sizeof(doppel_bpf)));
  if (!skel)
    return nullptr;
  int err = doppel_bpf__create_skeleton(skel);
  if (!err && conntrack)
    skel->skeleton->data =
        const_cast<void *>(doppel_conntrack_bpf::elf_bytes(&skel->skeleton->data_sz));
  if (!err)
    err = bpf_object__open_skeleton(skel->skeleton, nullptr);
  if (!err)
    return skel;
  doppel_bpf::destroy(skel);
  errno = -err;
  return nullptr;
}

Status resize(doppel_bpf *skel, const Plan &plan) {
  const uint32_t mappings = max_mappings(plan);
  const auto pools = static_cast<uint32_t>(plan.pools.size());
  const uint32_t watched = std::max(65536U, plan.config.slots); // each shadow once
  const std::pair<bpf_map *, uint32_t> sizes[] = {{skel->maps.flows, plan.flows},
                                                  {skel->maps.syns, syn_entries(plan.flows)},
                                                  {skel->maps.shadows, plan.config.slots},
                                                  {skel->maps.free_slots, pools},
                                                  {skel->maps.pools, pools},
                                                  {skel->maps.udp, pools},
                                                  {skel->maps.timer_queue, watched},
                                                  {skel->maps.store, plan.store_rows},
                                                  {skel->maps.chunks, plan.chunks},
                                                  {skel->maps.free_chunks, plan.chunks},
                                                  {skel->maps.mappings, mappings},
                                                  {skel->maps.converge, mappings},
                                                  {skel->maps.limits, mappings * DP_MAX_TARGETS},
                                                  {skel->maps.preambles, mappings * DP_MAX_TARGETS},
                                                  {skel->maps.ledger, dp_ledger_cells(mappings)}};
  for (auto [map, entries] : sizes)
    if (int err = bpf_map__set_max_entries(map, entries))
      return sys_error(std::string("map ") + bpf_map__name(map), "cannot be sized", -err);
  for (bpf_map *map : {skel->maps.meta, skel->maps.keeper})
    if (int err = bpf_map__set_value_size(map, dp_meta_size(mappings)))
      return sys_error(std::string("map ") + bpf_map__name(map), "cannot be sized", -err);
  return Unit{};
}

Status put(const bpf_map *map, const void *key, const void *value) {
  if (bpf_map_update_elem(bpf_map__fd(map), key, value, BPF_ANY))
    return sys_error(std::string("map ") + bpf_map__name(map), "cannot be filled", errno);
  return Unit{};
}

Status fill_preambles(const doppel_bpf *skel, const Plan &plan) {
  for (uint32_t row = 0; row < plan.preambles.size(); row++)
    for (uint32_t target = 0; target < plan.preambles[row].size(); target++) {
      const uint32_t place = row * DP_MAX_TARGETS + target;
      const dp_preamble p = preamble_row(plan.preambles[row][target]);
      TRY(put(skel->maps.preambles, &place, &p));
    }
  return Unit{};
}

// The others are not loaded.
void choose(doppel_bpf *skel, const std::set<std::string> &programs) {
  bpf_program *prog;
  bpf_object__for_each_program(prog, skel->obj)
      bpf_program__set_autoload(prog, programs.count(bpf_program__name(prog)) > 0);
}

// A program that is loaded into a map by which others call it.
Status put_call(const bpf_map *calls, uint32_t index, const bpf_program *prog) {
  const int fd = bpf_program__fd(prog);
  return fd < 0 ? Unit{} : put(calls, &index, &fd);
}

// The programs look here before they parse anything else.
Status fill_ports(const doppel_bpf *skel, const Plan &plan) {
  std::map<uint32_t, uint32_t> bits;
  for (const PortRow &row : plan.ports)
    bits[dp_port_word(row.key.port.proto == IPPROTO_UDP, row.key.port.port)] |=
        dp_port_bit(row.key.port.port);
  for (auto [word, value] : bits)
    TRY(put(skel->maps.ports, &word, &value));
  return Unit{};
}

// Each pool's address, and all its slots.
Status fill_pool(const doppel_bpf *skel, const Plan &plan, uint32_t number) {
  const Fd queue(bpf_map_create(BPF_MAP_TYPE_QUEUE, "free_slots", 0, sizeof(uint32_t),
                                plan.config.ports, nullptr));
  if (!queue)
    return sys_error("map free_slots", "cannot be made", errno);
  const uint32_t first = number * plan.config.ports;
  for (uint32_t slot = first; slot < first + plan.config.ports; slot++)
    if (bpf_map_update_elem(queue.get(), nullptr, &slot, BPF_ANY))
      return sys_error("map free_slots", "cannot be filled", errno);
  const int fd = queue.get();
  TRY(put(skel->maps.free_slots, &number, &fd));
  const Address &address = plan.pools[number];
  const dp_pool pool{address.raw, 0};
  TRY(put(skel->maps.pools, &number, &pool));
  return address.is_set() ? put(skel->maps.pool_of, &address.raw, &number) : Unit{};
}

} // namespace

std::set<std::string> needed_programs(const std::vector<dp_mapping> &rows) {
  std::set<std::string> names{DP_PROG_DELIVER, DP_PROG_RETURN, DP_PROG_COMMAND};
  for (const dp_mapping &row : rows) {
    const bool egress = row.flags & DP_MAP_EGRESS;
    names.insert(egress ? DP_PROG_EGRESS : DP_PROG_INGRESS);
    if (row.flags & DP_MAP_COPIES)
      names.insert(DP_PROG_COPIES);
    if (row.flags & DP_MAP_UDP)
      names.insert({egress ? DP_PROG_UDP_EGRESS : DP_PROG_UDP_INGRESS, DP_PROG_UDP_RETURN,
                    DP_PROG_UDP_DELIVER});
  }
  return names;
}

void Object::Destroyer::operator()(doppel_bpf *skel) const { doppel_bpf::destroy(skel); }

bool conntrack_can_be_asked() {
  LibbpfLog log;
  doppel_bpf *skel = open_image(true);
  if (!skel)
    return false;
  bpf_program *prog;
  bpf_object__for_each_program(prog, skel->obj)
      bpf_program__set_autoload(prog, prog == skel->progs.doppel_return);
  bool ok = !doppel_bpf::load(skel);
  doppel_bpf::destroy(skel);
  return ok;
}

Result<Object> Object::load(const Plan &plan, uint32_t link, uint32_t clock) {
  TRY(check_memory(plan));
  TRY(require_descriptors("data plane", kDescriptors));
  auto with = load_image(plan, link, clock, true);
  return with ? std::move(with) : load_image(plan, link, clock, false);
}

Result<Object> Object::load_image(const Plan &plan, uint32_t link, uint32_t clock, bool conntrack) {
  LibbpfLog log;
  Object object;
  object.skel_.reset(open_image(conntrack));
  doppel_bpf *skel = object.skel_.get();
  if (!skel)
    return log.load_error(errno);
  TRY(resize(skel, plan));
  auto *cfg = const_cast<dp_config *>(&skel->rodata->cfg);
  *cfg = plan.config;
  cfg->link = link;
  cfg->clock = clock;
  cfg->netns = current_netns().cookie;
  cfg->cookie = std::random_device()();
  choose(skel, needed_programs(plan.mappings));
  if (int err = doppel_bpf::load(skel))
    return log.load_error(-err);
  return object;
}

Status Object::fill(const Plan &plan) const {
  for (uint32_t pool = 0; pool < plan.pools.size(); pool++)
    TRY(fill_pool(skel_.get(), plan, pool));
  const uint32_t zero = 0;
  dp_fresh fresh{};
  fresh.limit = plan.chunks;
  TRY(put(skel_->maps.fresh_chunks, &zero, &fresh));
  const ClientLists lists(bpf_map__fd(skel_->maps.prefixes));
  for (size_t i = 0; i < plan.clients.size(); i++)
    if (plan.clients[i])
      TRY(lists.put(plan.mappings[i].clients, *plan.clients[i]));
  for (uint32_t i = 0; i < plan.mappings.size(); i++)
    TRY(put(skel_->maps.mappings, &i, &plan.mappings[i]));
  TRY(fill_preambles(skel_.get(), plan));
  for (const PortRow &row : plan.ports)
    TRY(put_row(bpf_map__fd(skel_->maps.port_map), bpf_map__fd(skel_->maps.address_map), row));
  TRY(fill_calls());
  return fill_ports(skel_.get(), plan);
}

Status Object::pin(const Pins &pins) const {
  TRY(pins.make_directories());
  bpf_map *map;
  bpf_object__for_each_map(map, skel_->obj) {
    if (bpf_map__is_internal(map))
      continue;
    TRY(pins.pin(bpf_map__fd(map), pins.map(bpf_map__name(map))));
  }
  bpf_program *prog;
  bpf_object__for_each_program(prog, skel_->obj) {
    if (bpf_program__fd(prog) >= 0)
      TRY(pins.pin(bpf_program__fd(prog), pins.prog(bpf_program__name(prog))));
  }
  return Unit{};
}

Result<Object> Object::load_image(const std::set<std::string> &programs, const Pins &pins,
                                  const dp_config &config, bool conntrack) {
  LibbpfLog log;
  Object object;
  object.skel_.reset(open_image(conntrack));
  doppel_bpf *skel = object.skel_.get();
  if (!skel)
    return log.load_error(errno);
  bpf_map *map;
  bpf_object__for_each_map(map, skel->obj) {
    if (bpf_map__is_internal(map))
      continue;
    const std::string path = pins.map(bpf_map__name(map));
    const Fd fd = open_pin(path);
    if (!fd)
      return sys_error(path, "cannot be opened", errno);
    if (int err = bpf_map__reuse_fd(map, fd.get()))
      return sys_error(path, "cannot be used", -err);
  }
  const_cast<dp_config &>(skel->rodata->cfg) = config;
  choose(skel, programs);
  if (int err = doppel_bpf::load(skel))
    return log.load_error(-err);
  return object;
}

Status Object::load_further(const std::set<std::string> &programs, const Pins &pins,
                            const dp_config &config) {
  std::set<std::string> missing;
  for (const std::string &name : programs)
    if (!open_pin_to_read(pins.prog(name))) {
      if (errno != ENOENT)
        return sys_error(pins.prog(name), "cannot be opened", errno);
      missing.insert(name);
    }
  if (missing.empty())
    return Unit{};
  TRY(require_descriptors("data plane", kDescriptors));
  auto object = load_image(missing, pins, config, true);
  if (!object)
    object = load_image(missing, pins, config, false);
  if (!object)
    return object.errors();
  // A program with a pin is not loaded again, so the pins come last.
  TRY(object->fill_calls());
  for (const std::string &name : missing)
    TRY(pins.pin(object->prog_fd(name), pins.prog(name)));
  return Unit{};
}

Status Object::fill_calls() const {
  const auto &progs = skel_->progs;
  TRY(put_call(skel_->maps.copies, 0, progs.doppel_copies));
  TRY(put_call(skel_->maps.udp_programs, DP_UDP_INGRESS, progs.doppel_udp_in));
  TRY(put_call(skel_->maps.udp_programs, DP_UDP_EGRESS, progs.doppel_udp_out));
  TRY(put_call(skel_->maps.udp_programs, DP_UDP_RETURN, progs.doppel_udp_ret));
  return put_call(skel_->maps.udp_programs, DP_UDP_DELIVER, progs.doppel_udp_dlv);
}

int Object::prog_fd(const std::string &name) const {
  bpf_program *prog = bpf_object__find_program_by_name(skel_->obj, name.c_str());
  return prog ? bpf_program__fd(prog) : -1;
}

const dp_config &Object::config() const { return const_cast<dp_config &>(skel_->rodata->cfg); }

int Object::meta_fd() const { return bpf_map__fd(skel_->maps.meta); }

} // namespace doppel
