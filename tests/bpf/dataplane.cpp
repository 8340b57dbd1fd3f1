// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/dataplane.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_ether.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <set>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "doppel/names.h"
#include "tests/bpf/players.h"
#include "tests/bpf/run.h"
#include "tests/packet/packet.h"
#include "userspace/config/settings.h"
#include "userspace/kernel/host_view.h"
#include "userspace/kernel/pins.h"
#include "userspace/mirror/attach.h"
#include "userspace/mirror/detach.h"

namespace doppel::bpftest {

namespace {

constexpr char kPins[] = "/sys/fs/bpf/doppel/v16/";
static_assert(DP_ABI == 16, "the pin path above");

std::string joined(const Errors &errors) {
  std::string out;
  for (const Error &e : errors)
    out += e.where + ": " + e.what + " (" + e.hint + ")\n";
  return out;
}

template <typename T> T must(Result<T> result, const char *what) {
  if (!result)
    throw std::runtime_error(std::string(what) + ": " + joined(result.errors()));
  return *std::move(result);
}

dp_addr raw(packet::Ip4 address, bool six) {
  if (!six)
    return Address::v4(htonl(address.host)).raw;
  dp_addr out{};
  std::memcpy(&out, v6_of(address).b.data(), sizeof out);
  return out;
}

// Bytes that the header of IPv6 is longer than IPv4's.
unsigned more_headers() { return World::families().target6 ? 20 : 0; }

// What makes a difference to attach, as text.
std::string identity_of(AttachMode mode, const Config &config) {
  std::ostringstream out;
  out << static_cast<int>(mode) << "\n";
  for (const auto &[key, value] : limits_text(config.limits))
    out << key << " " << value << "\n";
  for (const MappingConfig &m : config.mappings) {
    out << m.name << " " << m.devices.at(0) << " " << m.direction << " " << int{m.protocol} << " "
        << m.port_first << " " << m.port_last << " " << m.application << " " << m.join << " "
        << m.any_host << " " << m.converge << " " << m.max_bps << " " << m.address.text() << " "
        << m.seed << " " << (m.clients ? m.clients->id().digest : "");
    for (const TargetConfig &t : m.targets)
      out << " " << t.address.text() << ":" << t.port << " " << portion_text(t.portion) << " "
          << t.keep_client << " " << t.preamble;
    for (const TargetConfig &t : m.targets)
      for (const ShadowAddress &a : t.shadow_addresses)
        out << " from " << a.address.text();
    out << "\n";
  }
  return out.str();
}

} // namespace

struct DataPlane::Ring {
  ring_buffer *buffer = nullptr;
  std::set<unsigned> woken;

  explicit Ring(int map_fd) : buffer(ring_buffer__new(map_fd, &Ring::take, this, nullptr)) {}
  ~Ring() { ring_buffer__free(buffer); }
  static int take(void *self, void *data, size_t size) {
    if (size >= sizeof(dp_retransmit))
      static_cast<Ring *>(self)->woken.insert(static_cast<dp_retransmit *>(data)->slot);
    return 0;
  }
};

// The size of a note says how many bytes of its key are there.
struct DataPlane::Notes {
  ring_buffer *buffer = nullptr;
  std::vector<dp_key_note> notes;
  bool odd = false; // a size that is not as the note says

  explicit Notes(int map_fd) : buffer(ring_buffer__new(map_fd, &Notes::take, this, nullptr)) {}
  ~Notes() { ring_buffer__free(buffer); }
  std::vector<dp_key_note> take_all() {
    ring_buffer__consume(buffer);
    if (odd)
      throw std::runtime_error("the size of a note is not as the note says");
    return std::exchange(notes, {});
  }
  static int take(void *self, void *data, size_t size) {
    auto &to = *static_cast<Notes *>(self);
    dp_key_note note{};
    if (size <= sizeof note)
      std::memcpy(&note, data, size);
    to.odd |= size != offsetof(dp_key_note, key) + note.length;
    to.notes.push_back(note);
    return 0;
  }
};

dp_addr client_side(packet::Ip4 address) { return raw(address, World::families().client6); }

Config clock_config() {
  Config c = default_config();
  c.limits.keepalive_s = kClockKeepalive;
  return c;
}

Config default_config() {
  Config c;
  c.source = "test";
  MappingConfig m;
  m.name = "data";
  m.devices = {kCapture};
  m.port_first = kPort;
  m.port_last = kPort + 1;
  // The server is played by the test, so it is another host's traffic that we see: what a socket
  // of this host must take is the matter of server_test.cpp.
  m.any_host = true;
  m.where = "mappings[0]";
  TargetConfig t;
  t.address.raw = raw(cast().target, World::families().target6);
  t.port = kTargetPort;
  t.where = "mappings[0].targets[0]";
  m.targets.push_back(t);
  c.mappings.push_back(m);
  c.limits.flows = 8192; // excluded flows stay until their clients end them
  c.limits.port_first = kShadowPort;
  c.limits.port_last = kShadowPort + 63;
  c.limits.store_bytes = 8u << 20;
  c.limits.flow_cap = 2u << 20;
  c.limits.rto_min_ms = 60000;
  c.limits.rto_max_ms = 60000;
  return c;
}

DataPlane &DataPlane::in(World &world, AttachMode mode, const Config &config) {
  struct Current {
    std::string identity;
    std::unique_ptr<DataPlane> plane;
    std::string refused, why; // a configuration that could not be attached, and the reason
  };
  static std::map<World *, Current> current;
  Current &c = current[&world];
  const std::string wanted = identity_of(mode, config);
  if (c.plane && c.identity == wanted)
    return *c.plane;
  if (c.plane) {
    c.plane.reset();
    must(detach(0), "detach");
  }
  // A program that the verifier rejects may have cost it minutes: once is enough.
  if (c.refused == wanted)
    throw std::runtime_error(c.why);
  try {
    c.plane.reset(new DataPlane(mode, config));
  } catch (const std::exception &e) {
    c.refused = wanted;
    c.why = e.what();
    throw;
  }
  c.identity = wanted;
  return *c.plane;
}

DataPlane::DataPlane(AttachMode mode, const Config &wanted) {
  Config config = wanted;
  config.attach_mode = mode;
  const HostView host = must(view_host(config), "view_host");
  Plan plan = must(make_plan(config, host), "make_plan");
  plan.clock = config.limits.keepalive_s == kClockKeepalive;
  if (plan.mode != mode)
    throw std::runtime_error("the plan chose another attachment mode than was asked for");
  must(attach(plan, config), "attach");
  slots_ = plan.config.slots;
  link_index_ = if_nametoindex(DP_LINK);
  open_pins();
}

void DataPlane::open_pins() {
  const auto open = [](const std::string &path) {
    Fd fd(bpf_obj_get(path.c_str()));
    if (!fd)
      throw std::system_error(errno, std::generic_category(), path);
    return fd;
  };
  for (const char *name : {DP_PROGS}) // that this configuration needs
    if (Fd fd{bpf_obj_get((std::string(kPins) + DP_PIN_PROGS "/" + name).c_str())})
      programs_[name] = std::move(fd);
  for (const char *name : {"ledger", "shadows", "flows", "free_slots", "store", "control",
                           "mappings", "limits", "events", "clients", "fresh_chunks", "key_notes",
                           "key_watch", "key_samples", "key_sampled"})
    maps_[name] = open(std::string(kPins) + DP_PIN_MAPS "/" + name);
  ring_ = std::make_shared<Ring>(map("events"));
  notes_ = std::make_shared<Notes>(map("key_notes"));
  samples_ = std::make_shared<Notes>(map("key_samples"));
}

int DataPlane::program(const std::string &name) const { return programs_.at(name).get(); }
int DataPlane::map(const std::string &name) const { return maps_.at(name).get(); }

dp_ledger DataPlane::sum(unsigned index) const {
  const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
  static_assert(sizeof(dp_ledger) % 8 == 0, "per-CPU values are padded to 8 bytes");
  std::vector<dp_ledger> cells(cpus);
  if (bpf_map_lookup_elem(map("ledger"), &index, cells.data()))
    throw std::system_error(errno, std::generic_category(), "ledger");
  dp_ledger out{};
  // All fields are 64-bit words, signed ones in two's complement: they add up as such. Of moments
  // the latest counts.
  constexpr size_t first = offsetof(dp_ledger, last) / 8, n = sizeof(dp_moments) / 8;
  auto *to = reinterpret_cast<__u64 *>(&out);
  for (const dp_ledger &cell : cells) {
    const auto *from = reinterpret_cast<const __u64 *>(&cell);
    for (size_t i = 0; i < sizeof out / 8; i++)
      to[i] = i - first < n ? std::max(to[i], from[i]) : to[i] + from[i];
  }
  return out;
}

dp_ledger DataPlane::cell(unsigned mapping, unsigned target) const {
  return sum(dp_ledger_cell(mapping, target));
}

dp_ledger DataPlane::global_cell() const { return sum(DP_LEDGER_GLOBAL); }

std::string DataPlane::identity_broken() const {
  std::string out;
  for (unsigned target = 0; target < 2 * DP_MAX_TARGETS; target++)
    if (std::string why = bpftest::identity_broken(sum(target)); !why.empty())
      out += "ledger cell " + std::to_string(target) + ": " + why + "\n";
  return out;
}

dp_shadow DataPlane::shadow(unsigned slot) const {
  dp_shadow out{};
  if (bpf_map_lookup_elem_flags(map("shadows"), &slot, &out, BPF_F_LOCK))
    throw std::system_error(errno, std::generic_category(), "shadows");
  return out;
}

std::vector<unsigned> DataPlane::open_slots() const {
  std::vector<unsigned> out;
  for (unsigned slot = 0; slot < slots_; slot++) {
    const __u8 state = shadow(slot).tcp.state;
    if (state != DP_CLOSED && state != DP_TIME_WAIT)
      out.push_back(slot);
  }
  return out;
}

// A queue cannot be counted without emptying it; it is filled again in the same order.
unsigned DataPlane::free_ports() const {
  unsigned free = 0;
  for (__u32 pool = 0, id; !bpf_map_lookup_elem(map("free_slots"), &pool, &id); pool++) {
    const Fd queue(bpf_map_get_fd_by_id(id));
    std::vector<__u32> all;
    __u32 slot;
    while (!bpf_map_lookup_and_delete_elem(queue.get(), nullptr, &slot))
      all.push_back(slot);
    for (__u32 s : all)
      if (bpf_map_update_elem(queue.get(), nullptr, &s, 0))
        throw std::system_error(errno, std::generic_category(), "free_slots");
    free += static_cast<unsigned>(all.size());
  }
  return free;
}

unsigned DataPlane::count_entries(const char *name, size_t key_size) const {
  std::vector<uint8_t> key(key_size), next(key_size);
  unsigned n = 0;
  for (const void *from = nullptr; !bpf_map_get_next_key(map(name), from, next.data()); n++) {
    key = next;
    from = key.data();
  }
  return n;
}

unsigned DataPlane::store_entries() const { return count_entries("store", sizeof(dp_store_key)); }
unsigned DataPlane::chunks_held() const {
  constexpr uint32_t shared = 1U << 31; // CHUNK_SHARED, bpf/share.bpf.h
  std::set<uint32_t> held;
  dp_store_key key{}, next{};
  for (const void *from = nullptr; !bpf_map_get_next_key(map("store"), from, &next); from = &key) {
    key = next;
    uint32_t value = 0;
    if (!bpf_map_lookup_elem(map("store"), &key, &value))
      held.insert(value & ~shared);
  }
  return static_cast<unsigned>(held.size());
}

unsigned DataPlane::flow_entries() const { return count_entries("flows", sizeof(dp_flow_key)); }

int64_t DataPlane::target_chunks() const {
  int64_t sum = 0;
  for (uint32_t row = 0; row < 2 * DP_MAX_TARGETS; row++) {
    dp_limit limit{};
    if (bpf_map_lookup_elem(map("limits"), &row, &limit))
      throw std::system_error(errno, std::generic_category(), "limits");
    sum += limit.chunks;
  }
  return sum;
}

dp_client DataPlane::all_clients() const {
  dp_client sum{};
  std::vector<uint32_t> keys(DP_CLIENTS);
  std::vector<dp_client> rows(DP_CLIENTS);
  uint32_t count = DP_CLIENTS, at = 0;
  if (bpf_map_lookup_batch(map("clients"), nullptr, &at, keys.data(), rows.data(), &count, nullptr))
    throw std::system_error(errno, std::generic_category(), "clients");
  for (const dp_client &row : rows) {
    sum.chunks += row.chunks;
    sum.flows += row.flows;
    sum.ports += row.ports;
    sum.embryonic += row.embryonic;
  }
  return sum;
}

dp_client DataPlane::client_totals() const {
  const uint32_t last = DP_CLIENTS;
  dp_client row{};
  if (bpf_map_lookup_elem(map("clients"), &last, &row))
    throw std::system_error(errno, std::generic_category(), "clients");
  return row;
}

dp_fresh DataPlane::store_state() const {
  const uint32_t zero = 0;
  dp_fresh row{};
  if (bpf_map_lookup_elem(map("fresh_chunks"), &zero, &row))
    throw std::system_error(errno, std::generic_category(), "fresh_chunks");
  return row;
}

void DataPlane::age(unsigned slot, unsigned seconds) const {
  dp_shadow row = shadow(slot);
  row.tcp.seen_ns -= seconds * 1000000000ull;
  row.tcp.timed_ns -= seconds * 1000000000ull;
  if (row.tcp.settling_ns)
    row.tcp.settling_ns -= seconds * 1000000000ull;
  if (bpf_map_update_elem(map("shadows"), &slot, &row, BPF_F_LOCK))
    throw std::system_error(errno, std::generic_category(), "shadows");
}

void DataPlane::end_pauses() const {
  dp_flow_key key{}, next{};
  for (const void *from = nullptr; !bpf_map_get_next_key(map("flows"), from, &next); from = &key) {
    key = next;
    dp_flow row{};
    if (bpf_map_lookup_elem_flags(map("flows"), &key, &row, BPF_F_LOCK))
      continue; // it has ended meanwhile
    row.retry = row.retry ? 1 : 0;
    if (bpf_map_update_elem(map("flows"), &key, &row, BPF_F_LOCK))
      throw std::system_error(errno, std::generic_category(), "flows");
  }
}

void DataPlane::widen(unsigned slot, unsigned bytes) const {
  dp_shadow row = shadow(slot);
  row.tcp.cwnd = bytes;
  if (bpf_map_update_elem(map("shadows"), &slot, &row, BPF_F_LOCK))
    throw std::system_error(errno, std::generic_category(), "shadows");
}

void DataPlane::sent_by_another(unsigned slot) const {
  dp_shadow row = shadow(slot);
  row.tcp.sender = static_cast<__u8>(row.tcp.sender % (DP_SENDERS - 1) + 1);
  if (bpf_map_update_elem(map("shadows"), &slot, &row, BPF_F_LOCK))
    throw std::system_error(errno, std::generic_category(), "shadows");
}

void DataPlane::route_mtu(unsigned mtu) const {
  const __u32 zero = 0;
  dp_mapping row{};
  if (bpf_map_lookup_elem(map("mappings"), &zero, &row))
    throw std::system_error(errno, std::generic_category(), "mappings");
  row.target[0].mtu = static_cast<__u16>(mtu + more_headers());
  if (bpf_map_update_elem(map("mappings"), &zero, &row, 0))
    throw std::system_error(errno, std::generic_category(), "mappings");
}

void DataPlane::learn_path(unsigned mtu, unsigned seconds) const {
  const __u32 zero = 0;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now); // as bpf_ktime_get_coarse_ns()
  dp_limit row{};
  if (bpf_map_lookup_elem(map("limits"), &zero, &row))
    throw std::system_error(errno, std::generic_category(), "limits");
  row.path_mtu = (static_cast<__u64>(now.tv_sec) + seconds) << 32 | (mtu + more_headers());
  if (bpf_map_update_elem(map("limits"), &zero, &row, 0))
    throw std::system_error(errno, std::generic_category(), "limits");
}

void DataPlane::pause(bool on) const {
  const __u32 zero = 0;
  dp_control control{};
  control.paused = on;
  if (bpf_map_update_elem(map("control"), &zero, &control, BPF_ANY))
    throw std::system_error(errno, std::generic_category(), "control");
}

void DataPlane::command(unsigned slot, dp_command op) const {
  ProgRun run;
  run.fd = program(DP_PROG_COMMAND);
  run.ifindex = link_index_;
  run.frame = packet::Packet().ip4("0.0.0.0", "0.0.0.0").tcp(0, 0).padding(6).build();
  run.cb[DP_CMD_CB_OP] = op;
  run.cb[DP_CMD_CB_SLOT] = slot;
  run.cb[DP_CMD_CB_GEN] = shadow(slot).gen;
  const RunResult r = run.go();
  if (r.error || r.verdict)
    throw std::runtime_error("command: error " + std::to_string(r.error) + ", returned " +
                             std::to_string(r.verdict));
}

void DataPlane::expire(const Client &client, uint32_t silent_s, dp_command op,
                       packet::Ip4 server) const {
  dp_flow_key key{};
  key.client = client_side(client.ip);
  key.server = client_side(server);
  key.client_port = htons(client.port);
  key.server_port = htons(client.server_port);
  ProgRun run;
  run.fd = program(DP_PROG_COMMAND);
  run.ifindex = link_index_;
  run.frame = packet::Packet().ip4("0.0.0.0", "0.0.0.0").tcp(0, 0).padding(6).build();
  std::memcpy(run.frame.data() + ETH_HLEN, &key, sizeof key);
  run.cb[DP_CMD_CB_OP] = op;
  run.cb[DP_CMD_CB_SLOT] = DP_NO_SLOT;
  run.cb[DP_CMD_CB_SECONDS] = silent_s;
  if (const RunResult r = run.go(); r.error || r.verdict)
    throw std::runtime_error("expire: error " + std::to_string(r.error));
}

dp_mapping DataPlane::mapping() const {
  const __u32 zero = 0;
  dp_mapping row{};
  if (bpf_map_lookup_elem(map("mappings"), &zero, &row))
    throw std::system_error(errno, std::generic_category(), "mappings");
  return row;
}

void DataPlane::put_mapping(const dp_mapping &row) const {
  const __u32 zero = 0;
  if (bpf_map_update_elem(map("mappings"), &zero, &row, 0))
    throw std::system_error(errno, std::generic_category(), "mappings");
}

void DataPlane::converge(bool on) const {
  dp_mapping row = mapping();
  row.flags = static_cast<__u16>(on ? row.flags | DP_MAP_CONVERGE : row.flags & ~DP_MAP_CONVERGE);
  put_mapping(row);
}

std::vector<dp_key_note> DataPlane::key_notes() { return notes_->take_all(); }
std::vector<dp_key_note> DataPlane::key_samples() { return samples_->take_all(); }

void DataPlane::watch_keys(unsigned every, uint64_t for_ns) const {
  const __u32 zero = 0;
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  dp_key_watch value{};
  value.until_ns = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
                   static_cast<uint64_t>(now.tv_nsec) + for_ns;
  value.every = every;
  if (bpf_map_update_elem(map("key_watch"), &zero, &value, 0))
    throw std::system_error(errno, std::generic_category(), "key_watch");
}

dp_key_sampled DataPlane::key_sampled() const {
  const __u32 zero = 0;
  std::vector<dp_key_sampled> cpus(static_cast<size_t>(libbpf_num_possible_cpus()));
  if (bpf_map_lookup_elem(map("key_sampled"), &zero, cpus.data()))
    throw std::system_error(errno, std::generic_category(), "key_sampled");
  dp_key_sampled sum{};
  for (const dp_key_sampled &cpu : cpus) {
    sum.keys += cpu.keys;
    sum.told += cpu.told;
    sum.dropped += cpu.dropped;
  }
  return sum;
}

bool DataPlane::wait_for_wake(unsigned slot, int timeout_ms) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (!ring_->woken.count(slot)) {
    if (std::chrono::steady_clock::now() > deadline)
      return false;
    ring_buffer__poll(ring_->buffer, 20);
  }
  ring_->woken.erase(slot);
  return true;
}

} // namespace doppel::bpftest
