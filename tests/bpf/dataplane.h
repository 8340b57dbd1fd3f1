// SPDX-License-Identifier: Apache-2.0
// The data plane as `doppel attach` makes it, reached through its pins.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "doppel/abi.h"
#include "tests/bpf/ledger.h"
#include "tests/bpf/world.h"
#include "userspace/config/config.h"
#include "userspace/util/fd.h"

namespace doppel::bpftest {

inline constexpr uint16_t kPort = 11211;       // first captured port; the mapping has two
inline constexpr uint16_t kTargetPort = 21211; // where the first one goes
inline constexpr uint16_t kShadowPort = 20000; // first shadow port

// One mapping, "data": ports 11211-11212 entering cap0, one target. Timeouts are out of reach, so
// that only a packet can make a shadow act.
Config default_config();
// The same, where the clock goes round as well: what is due is sent without a packet.
inline constexpr uint32_t kClockKeepalive = 86400; // s
Config clock_config();

// As the data plane has the address of a client, or of the source.
dp_addr client_side(packet::Ip4 address);

struct Client;

class DataPlane {
public:
  // Attached in this world with this configuration; attaches anew only if it differs from before.
  static DataPlane &in(World &world, AttachMode mode, const Config &config);

  int program(const std::string &name) const;
  bool has_program(const std::string &name) const { return programs_.count(name) > 0; }
  int map(const std::string &name) const;
  unsigned link_index() const { return link_index_; }

  dp_ledger cell(unsigned mapping = 0, unsigned target = 0) const;
  dp_ledger global_cell() const;
  // Empty if the identity holds in every cell.
  std::string identity_broken() const;

  dp_shadow shadow(unsigned slot) const;
  // Open shadows; there are none between tests.
  std::vector<unsigned> open_slots() const;
  unsigned free_ports() const;
  unsigned store_entries() const;
  unsigned flow_entries() const;
  dp_client all_clients() const;   // the sum of their rows
  dp_client client_totals() const; // what the data plane keeps of it
  int64_t target_chunks() const;   // the sum of what targets hold of the store
  dp_fresh store_state() const;
  // Chunks that keys of the store lead to, each once.
  unsigned chunks_held() const;
  // As if nothing had come of the shadow's client for so many seconds.
  void age(unsigned slot, unsigned seconds) const;
  // As if every flow that is left alone for a while had been so for long enough.
  void end_pauses() const;
  // As if the path had taken so many bytes at a time: the congestion window.
  void widen(unsigned slot, unsigned bytes) const;
  // As if another CPU had sent what is on its way.
  void sent_by_another(unsigned slot) const;
  // The row of the target has this MTU of its route, or 20 more if that is IPv6, so that segments
  // are of one size; no open shadow is told.
  void route_mtu(unsigned mtu) const;
  // As if the path to the target had been found to take so much (as above), which is believed for
  // so long yet.
  void learn_path(unsigned mtu, unsigned seconds) const;
  void pause(bool on) const;

  // BPF_PROG_RUN of the command program, as the keeper does it.
  void command(unsigned slot, dp_command op) const;
  // The same for the flow of this client, silent for so long or not. `op` may be
  // DP_CMD_SOURCE_GONE.
  void expire(const Client &client, uint32_t silent_s, dp_command op = DP_CMD_EXPIRE,
              packet::Ip4 server = cast().server) const;
  // Waits until a shadow asks for a resend; false at the deadline.
  bool wait_for_wake(unsigned slot, int timeout_ms);

  // The mapping's servers are made to converge, or not.
  void converge(bool on) const;
  // The first mapping's row. Put back what was there before the test ends: the next one has the
  // same data plane. A reload that removes a mapping leaves a row of zeros.
  dp_mapping mapping() const;
  void put_mapping(const dp_mapping &row) const;
  // What `key_notes` was told since the last call. Of each key the bytes that are used.
  std::vector<dp_key_note> key_notes();
  // Somebody looks at one key in so many, for so long from now on.
  void watch_keys(unsigned every, uint64_t for_ns) const;
  // The same of `key_samples`.
  std::vector<dp_key_note> key_samples();
  dp_key_sampled key_sampled() const;

private:
  DataPlane(AttachMode mode, const Config &config);
  void open_pins();
  dp_ledger sum(unsigned index) const;
  unsigned count_entries(const char *map_name, size_t key_size) const;

  unsigned slots_ = 0, link_index_ = 0;
  std::map<std::string, Fd> programs_, maps_;
  struct Ring;
  std::shared_ptr<Ring> ring_;
  struct Notes;
  std::shared_ptr<Notes> notes_, samples_;
};

} // namespace doppel::bpftest
