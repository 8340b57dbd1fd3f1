// SPDX-License-Identifier: Apache-2.0
// As much of a kernel as the BPF programs notice, in one process: packets, maps, helpers, a clock.
// It is deterministic; what may fail or differ from run to run is told by the one who drives it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "doppel/abi.h"
#include "tests/fuzz/bpf/registry.h"
#include "tests/fuzz/bpf/socket.h"

namespace doppel::fuzz {

// Prints why and aborts, so that libFuzzer keeps the input.
[[noreturn]] void fail(const std::string &why);
inline void require(bool condition, const char *what) {
  if (!condition)
    fail(what);
}

// skb->ip_summed, as far as it makes a difference here.
enum class Summed { none, unnecessary, partial };

struct Skb {
  __sk_buff ctx{}; // first: the programs' pointer to it is the Skb's
  std::vector<uint8_t> data;
  Summed summed = Summed::none;
};

// The fields that are derived from the data.
void describe(Skb &skb);

struct Sent {
  Skb skb;
  uint32_t device;
  bool neigh; // by bpf_redirect_neigh, which writes the Ethernet header
};

class Map {
public:
  explicit Map(const host_map_row &row);
  void *lookup(const void *key, unsigned cpu);
  long update(const void *key, const void *value, uint64_t flags);
  long remove(const void *key);
  long push(const void *value);
  long pop(void *value, bool take);
  size_t size() const { return keys_.size() + queue_.size(); }
  void clear();
  void for_each(const std::function<void(const void *key, void *value)> &f);

private:
  using Value = std::unique_ptr<uint8_t[]>;
  void *longest_match(const void *key);
  size_t find(const void *key) const;

  const host_map_row &row_;
  bool array_ = false, per_cpu_ = false, lru_ = false, stack_ = false, trie_ = false;
  Value values_;              // of arrays, all CPUs
  std::vector<bool> touched_; // their entries that may not be zero any more
  std::vector<uint32_t> touched_list_;
  std::vector<Value> keys_;  // of hashes; few, hence no hash
  std::vector<Value> entry_; // each of its own, so that ASan sees a use after the deletion
  std::deque<Value> queue_;
};

struct Kernel {
  Kernel();
  void reset();

  Map &map(const void *which);
  template <typename T> T *at(const void *which, uint32_t index, unsigned cpu = 0) {
    return static_cast<T *>(map(which).lookup(&index, cpu));
  }

  // Runs a TC program on the packet and carries out its verdict; returns the verdict.
  int run(int (*program)(__sk_buff *), Skb &skb);
  // Moves the clock and runs the timer if its time has come.
  void advance(uint64_t ns);

  uint64_t now = 1'000'000'000'000;
  std::vector<Sent> sent;
  unsigned wakes = 0;
  uint64_t notes = 0, notes_refused = 0; // of keys; every seventh finds the ring full

  // What may go wrong: 0 never, n: the n-th from here on.
  unsigned clone_fails_at = 0, update_fails_at = 0, build_fails_at = 0;
  bool failed = false; // one of them has

  // Another CPU's turn, taken right before the n-th lock from here on; 0: never.
  unsigned preempt_at = 0;
  std::function<void()> preempt;
  unsigned cpu = 0;

  // Which sockets this host has. socket: true if one takes a packet of this client's port.
  std::function<bool(const bpf_sock_tuple &, host_socket &)> socket;
  std::function<bool(uint16_t port)> port_in_use;

  // Internal to the helpers.
  std::vector<std::pair<const void *, Map>> maps;
  std::vector<std::unique_ptr<uint8_t[]>> graveyard; // RCU: what another CPU may still look at
  unsigned depth = 0, sockets_held = 0;
  bpf_spin_lock *held = nullptr;
  const __sk_buff *context = nullptr; // the program's that runs
  uint64_t timer_at = 0;
  bpf_timer *timer = nullptr;
  int (*timer_callback)(void *, uint32_t *, void *) = nullptr;
  const void *timer_map = nullptr;
  uint32_t random = 1, redirect_to = 0;
  bool redirect_neigh = false;
};

Kernel &kernel();

} // namespace doppel::fuzz

extern "C" {
int doppel_ingress(__sk_buff *);
int doppel_egress(__sk_buff *);
int doppel_deliver(__sk_buff *);
int doppel_return(__sk_buff *);
int doppel_command(__sk_buff *);
int doppel_copies(__sk_buff *);
extern char ports, port_map, address_map, mappings, prefixes, flows, syns, shadows, free_slots,
    host_free_slots, host_free_further, pools, pool_of, store, chunks, free_chunks, fresh_chunks,
    freed_ranges, clients, ledger, limits, preambles, timer_queue, timer, due, events, control,
    meta, keeper, scratch, copies, udp_programs, key_notes, key_watch, key_samples;
}
